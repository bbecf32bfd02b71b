"""The page around a body, its tables, and writing it."""

import pytest
from etils import epath

from roberta_jax.page.document import document, table, write_whole


def test_a_title_is_text_and_a_body_is_html():
    page = document("a < b", "<p>body</p>")
    assert page.startswith("<!doctype html>") and "<title>a &lt; b" in page
    assert "<h1>a &lt; b</h1>\n<p>body</p>" in page and "<script" not in page
    assert "refresh" not in page


def test_a_page_may_be_loaded_again():
    assert '<meta http-equiv="refresh" content="30">' in document("", "", refresh_seconds=30)


def test_the_cells_of_a_table_are_text():
    text = table([("<a>", "1 & 2", "3")], head=("", "x", "<y>"), kind="config")
    assert '<table class="config"><thead><tr><th></th><th>x</th><th>&lt;y&gt;</th></tr>' in text
    assert "<tr><th>&lt;a&gt;</th><td>1 &amp; 2</td><td>3</td></tr>" in text
    assert "<thead>" not in table([("a", "b")])


def test_a_file_is_written_whole_and_nothing_else_stays(tmp_path):
    path = epath.Path(tmp_path / "new" / "page.html")
    assert write_whole(path, b"one") == path and path.read_bytes() == b"one"
    write_whole(path, b"two")
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]


def test_what_cannot_take_the_name_leaves_nothing(tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OSError):
        write_whole(epath.Path(tmp_path / "page.html"), b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
