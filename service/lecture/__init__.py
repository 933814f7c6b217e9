"""The lecture's figures and tables, run again: one page, or all of them as a book.

`pages.pages()`, `errata.errata()` and `rows.rows()` are the lecture as data; `running.run_page`
runs one page, `rendering.write_page` writes its files, `book.run_book` does all of them.
"""
