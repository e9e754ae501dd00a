"""What tests of a page with a map do in the browser."""

MAP = "channelMaps[0]"


def text(page, name):
    return page.run(f"document.querySelector('.cm-{name}').innerText")


def place(page, i):
    """Where channel i is drawn in the window."""
    return page.run(
        f"(() => {{ const p = {MAP}.plot; p.overlay.scrollIntoView({{block: 'center'}});"
        "const b = p.overlay.getBoundingClientRect();"
        f"return [b.left + p.at[{2 * i}], b.top + p.at[{2 * i + 1}]]; }})()"
    )


def shown(page):
    """Channels of the table's rows, in order."""
    return page.run("[...document.querySelectorAll('.cm-rows tbody tr')].map(r => +r.dataset.i)")


def drawn(page):
    return page.run(f"[...{MAP}.plot.drawn]")


def click_on(page, selector):
    page.run(f"document.querySelector({selector!r}).click()")
    page.settle()


def enter(page, selector, value):
    page.run(
        f"(() => {{ const e = document.querySelector({selector!r}); e.value = {value!r};"
        "e.dispatchEvent(new Event('input', {bubbles: true}));"
        "e.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    page.settle()
