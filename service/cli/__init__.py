"""The `isoflop` command.

Exit codes: 0 done, 1 `gradcheck` found wrong gradients, 2 bad input, 3 the budget ended before one
trial finished, 4 the recipe stopped the search, 130 interrupted (and the line that resumes it is
printed).

Commands import what they need when they run, so that `isoflop --help` answers at once.
"""

import io
import os
import sys

import typer

import service.cli.books as books
import service.cli.examine as examine
import service.cli.lecture as lecture
import service.cli.look as look
import service.cli.remote as remote
import service.cli.run as run
import service.cli.scale as scale
import service.cli.scale_fit as scale_fit
import service.cli.serve as serve
import service.cli.start as start
import service.cli.store as store
import service.cli.upkeep as upkeep
import service.cli.users as users
from service.cli.failures import BAD_INPUT, exit_code_of

HELP = """Find good hyperparameters for neural networks, and see what finding them cost.

Start with `isoflop init` (writes a spec to edit), then `isoflop search spec.yaml`.
"""

app = typer.Typer(
    name="isoflop",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(
    name="data", help="Register your own tables, once, for all specs.", no_args_is_help=True
)

for group, commands in (
    ("Start", (start.init, start.check, start.catalog, start.doctor)),
    ("Run", (run.search, run.resume, run.extend, run.stop)),
    ("Look", (look.list_, look.show, look.report, look.compare, look.export, books.energy,
              look.predict)),
    ("Service", (serve.serve, remote.submit, remote.jobs, remote.status, remote.logs,
                 remote.fetch, upkeep.delete, upkeep.gc)),
    ("Examine", (examine.gradcheck, examine.tickets, examine.landscape, examine.compress)),
):  # fmt: skip
    for command in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel=group)(command)
data_app.command("add")(store.add)
data_app.command("list")(store.list_)
app.add_typer(data_app, rich_help_panel="Start")
users_app = typer.Typer(
    name="users", help="Who may use the service, and their tokens.", no_args_is_help=True
)
users_app.command("add")(users.add)
users_app.command("list")(users.list_)
users_app.command("token")(users.token)
users_app.command("revoke")(users.revoke)
app.add_typer(users_app, rich_help_panel="Service")
factors_app = typer.Typer(
    name="factors", help="Carbon factors and PUE of sites, with their dates.", no_args_is_help=True
)
factors_app.command("add")(books.add_factor)
factors_app.command("end")(books.end_factor)
factors_app.command("list")(books.list_factors)
app.add_typer(factors_app, rich_help_panel="Look")
lecture_app = typer.Typer(
    name="lecture", help="The lecture's figures and tables, run again.", no_args_is_help=True
)
lecture_app.command("list")(lecture.list_)
lecture_app.command("run")(lecture.run)
lecture_app.command("errata")(lecture.errata)
app.add_typer(lecture_app, rich_help_panel="Look")
scale_app = typer.Typer(
    name="scale",
    help="Is a bigger model worth it? Best size, loss, kWh and where returns stop paying.",
    no_args_is_help=True,
)
scale_app.command("run")(scale.run)
scale_app.command("plan")(scale.plan)
scale_app.command("fit")(scale_fit.fit)
scale_app.command("predict")(scale.predict)
scale_app.command("verify")(scale.verify)
scale_app.command("extend")(scale.extend)
app.add_typer(scale_app, rich_help_panel="Run")


def main() -> None:
    """Run the command line; every deliberate error becomes a message and an exit code."""
    from trainers.errors import IsoflopError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Unicode: `?` for `±`
            stream.reconfigure(errors="replace")
    # A factory beside the spec must be found, as it would be by `python -m`.
    if "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        app()
    except IsoflopError as error:
        print(f"isoflop: {error}", file=sys.stderr)
        sys.exit(exit_code_of(error))
    except SystemExit as left:  # into which typer turns Ctrl-C, without a word
        if left.__context__ and isinstance(left.__context__.__cause__, KeyboardInterrupt):
            message = "isoflop: stopped at once; `isoflop list` shows what can be resumed"
            print(message, file=sys.stderr)
        raise
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # a full disk, no permission: the user's to mend, not a fault of ours
        what = f"cannot use `{error.filename}`: {error.strerror}" if error.filename else error
        print(f"isoflop: {what}; check path, permissions and free space", file=sys.stderr)
        sys.exit(BAD_INPUT)
