"""The look of a report: one column, pictures on white cards, tables that scroll by
themselves on a phone.
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --faint: #5b6670; --ground: #fbfbfa; --line: #d9dde1; --card: #fff;
  --accent: #1769aa; --good: #12703a; --bad: #a12622; --band: #f1f3f4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --faint: #a3adb7; --ground: #16191c; --line: #3a4046;
  --accent: #7db8ee; --good: #6fd195; --bad: #f08a83; --band: #20252a; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: var(--ink); background: var(--ground);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.6rem 0 .4rem; }
p, ul { max-width: 46rem; }
a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; margin: 1rem 0; }
nav a { display: inline-block; padding: .25rem 0; }
.absent { color: var(--faint); font-style: italic; }
figure { margin: 1rem 0; }
figure.table figcaption { margin: 0; }
figure.table .side { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: start; }
.side figure { min-width: 0; }
.scroll { margin-top: .2rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; }
figure.wide img { min-width: 42rem; }
figcaption { color: var(--faint); font-size: .9rem; margin-top: .3rem; max-width: 46rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 0 1.2rem;
  align-items: start; }
.gallery figure { min-width: 0; max-width: 38rem; }
.gallery figure img { width: 100%; }
.side { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: start; }
.side figure { min-width: 0; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .26rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tbody th, thead th:first-child { text-align: left; font-weight: 600; }
thead th { vertical-align: bottom; font-weight: 600; }
thead th[scope=colgroup] { text-align: center; white-space: normal; border-left: 2px solid var(--ground);
  background: var(--band); }
tbody th { position: sticky; left: 0; background: var(--ground); }
tr.first th, tr.first td { border-top: 2px solid var(--line); }
.best { font-weight: 700; }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
details { margin: .5rem 0; }
summary { cursor: pointer; padding: .2rem 0; }
pre { overflow-x: auto; background: var(--band); padding: .6rem .8rem; border-radius: 6px; font-size: .82rem; }
"""
