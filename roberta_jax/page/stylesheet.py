"""The looks of a page: one stylesheet, for light and dark screens and for paper; colours."""

# Mid-tones that read on white and on black.
COLOURS = (
    "#3b82f6",
    "#f2711c",
    "#16a34a",
    "#db2777",
    "#8b5cf6",
    "#b58900",
    "#0891b2",
    "#78716c",
)

STYLESHEET = """
:root {
  color-scheme: light dark;
  --ink: #27272a; --soft: #71717a; --paper: #ffffff; --line: #e4e4e7; --mark: #fef3c7;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e7; --soft: #a1a1aa; --paper: #18181b; --line: #3f3f46; --mark: #422f06; }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "Liberation Sans", sans-serif;
}
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p.sub { color: var(--soft); margin: 0 0 1.5rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1.5rem .3rem 0; text-align: left; vertical-align: top; }
tr { border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
tbody th { font-weight: 400; color: var(--soft); white-space: nowrap; }
tr.differs td { background: var(--mark); }
tr.differs th { color: var(--ink); font-weight: 600; }
table.config {
  font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .85em;
}
table.confusion { margin-bottom: 1rem; }
table.confusion td, table.confusion thead th { padding: .3rem .8rem; text-align: right; }
table.confusion thead th:first-child { padding-left: 0; text-align: left; }
table.confusion small { opacity: .75; }
.swatch {
  display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em;
}
.plots {
  display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr));
}
.plots figure.loss { grid-column: 1 / -1; }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; }
.notes { border-left: 3px solid #f2711c; padding-left: .9rem; list-style: none; }
.notes li + li { margin-top: .3rem; }
.tables { display: flex; flex-wrap: wrap; gap: 0 4rem; }
summary { cursor: pointer; font-weight: 600; font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""
