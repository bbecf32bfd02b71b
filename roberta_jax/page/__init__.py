"""An HTML page that can be mailed: one file, without scripts and without anything from elsewhere.

In: a title and the body that another folder has made of its own figures. Out: the text of a page
in this project's looks, written whole or not at all.

- `document`: the page around a body, tables, writing a file.
- `stylesheet`: the looks, and the colours that figures use.
"""
