import re, pathlib
W = pathlib.Path('/tmp/w/op')
USE = re.compile(r'^(?:pub(?:\([a-z]+\))? )?use [^;]*;\n', re.M)
def fix(t):
    items = [m for m in USE.finditer(t)]
    api = [m for m in items if m.group().startswith('use ping_api::')]
    other = [m for m in items if re.match(r'(pub(\([a-z]+\))? )?use (?!self|super|crate|ping_api|std)', m.group())]
    own = [m for m in items if re.match(r'(pub(\([a-z]+\))? )?use (self|super|crate)', m.group())]
    if not api: return t
    text = ''.join(m.group() for m in api)
    if other and other[-1].start() < api[0].start() and t[other[-1].end():api[0].start()].strip() == '' and not '\n' in t[other[-1].end():api[0].start()]:
        return t  # already in group
    for m in reversed(api): t = t[:m.start()] + t[m.end():]
    items = [m for m in USE.finditer(t)]
    other = [m for m in items if re.match(r'(pub(\([a-z]+\))? )?use (?!self|super|crate|ping_api|std)', m.group())]
    own = [m for m in items if re.match(r'(pub(\([a-z]+\))? )?use (self|super|crate)', m.group())]
    std = [m for m in items if m.group().startswith('use std')]
    if other:
        p = other[-1].end(); t = t[:p] + text + t[p:]
    elif own:
        p = own[0].start(); t = t[:p] + text + '\n' + t[p:]
    elif std:
        p = std[-1].end(); t = t[:p] + '\n' + text + t[p:]
    else:
        p = api[0].start(); t = t[:p] + text + t[p:]
    return t
for d in ['operator', 'tests', 'bench/src']:
    for f in (W/d).rglob('*.rs'):
        t = f.read_text(); n = fix(t)
        if n != t: f.write_text(n)
