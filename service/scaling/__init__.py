"""Scaling studies: laws of the loss over model size, data and compute, with measured uncertainty.

    points.py          rows of any table -> Points
    fits.py            joint laws L(N, D) and their optima
    curves.py          laws of one variable, always beside the last value carried forward
    uncertainty.py     what the error was on larger budgets held out, and intervals from it
    hyperparameters.py how the best learning rate moves with size and budget
    next_runs.py       which runs would narrow a prediction most
    comparison.py      one recipe against another at equal loss

    questions.py       what one may ask of a fit; study.py adds tables, ledgers and files
    gathering.py       every default question at once, for report/ and pictures/

Notation: N parameters, D tokens (samples, for other data), C training FLOPs, L the loss.
Numbers here need numpy, scipy and pandas only; torch, ray and plotting load where they are used.
"""
