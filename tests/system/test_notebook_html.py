"""HTML for notebooks."""

from qwen2vl_rs.system.notebook import html_page, html_table


def test_a_table_has_every_column_and_is_text():
    html = html_table([{"a": 0.5, "<b>": None}, {"c": {"yes": 1.0}}], "<caption>")
    assert html.count("<th>") == 3
    assert "&lt;b&gt;" in html
    assert "<caption>&lt;caption&gt;</caption>" in html
    assert "<td>0.500</td><td></td><td></td>" in html
    assert "yes: 1.000" in html


def test_an_embedded_page_is_sandboxed_text():
    html = html_page("<script>1</script>", 10)
    assert "<script>" not in html
    assert 'sandbox="allow-scripts"' in html
    assert "height:10px" in html
