"""Rewrites `use` trees and inline paths by a map of path prefixes."""
import re, sys, pathlib
def split_top(s):
    out, depth, cur = [], 0, ''
    for c in s:
        if c == '{': depth += 1
        if c == '}': depth -= 1
        if c == ',' and depth == 0:
            out.append(cur); cur = ''
        else: cur += c
    if cur.strip(): out.append(cur)
    return [o.strip() for o in out if o.strip()]
def flatten(tree, prefix=()):
    tree = tree.strip()
    i = tree.find('{')
    if i >= 0 and tree.endswith('}'):
        head = tree[:i].rstrip(':').strip()
        p = prefix + tuple(x for x in head.split('::') if x)
        res = []
        for t in split_top(tree[i+1:-1]): res += flatten(t, p)
        return res
    m = re.match(r'^(.*?)(\s+as\s+\w+)?$', tree, re.S)
    p = prefix + tuple(m.group(1).strip().split('::'))
    return [(p, (m.group(2) or '').strip())]
def remap(path, maps):
    s = '::'.join(path)
    for a, b in maps:
        if s == a or s.startswith(a + '::'):
            return tuple((b + s[len(a):]).split('::'))
    return path
def emit(paths):
    # paths: list of (tuple, as) sharing root
    tree = {}
    for p, alias in paths:
        node = tree
        for seg in p[:-1]: node = node.setdefault(seg, {})
        node.setdefault((p[-1], alias), None)
        if p[-1] == 'self': pass
    def render(node):
        items = []
        for k, v in node.items():
            if v is None:
                name, alias = k
                items.append((0, name, name + (' ' + alias if alias else '')))
            else:
                inner = render(v)
                items.append((1, k, k + '::' + (inner[0] if len(inner) == 1 and not inner[0].startswith('self') else '{' + ', '.join(inner) + '}')))
        # merge "x" and "x::..." into x::{self, ..}
        leafs = {n for t, n, r in items if t == 0 and ' as ' not in r}
        res = []
        for t, n, r in items:
            if t == 1 and n in leafs:
                body = r[len(n)+2:]
                body = body[1:-1] if body.startswith('{') else body
                res.append((n, f'{n}::{{self, {body}}}'))
            elif t == 0 and ' as ' not in r and any(t2 == 1 and n2 == n for t2, n2, _ in items): continue
            else: res.append((n, r))
        return [r for _, r in sorted(res, key=lambda x: (not x[0].startswith('self'), x[0]))]
    return render(tree)
def rewrite(text, maps, roots):
    pat = re.compile(r'^(?P<ind>[ \t]*)(?P<vis>pub(?:\([a-z]+\))? )?use (?P<t>(?:%s)::[^;]*);' % '|'.join(roots), re.M)
    blocks = list(pat.finditer(text))
    out, pos = '', 0
    for m in blocks:
        out += text[pos:m.start()]
        flat = [(remap(p, maps), a) for p, a in flatten(m.group('t'))]
        groups = {}
        for p, a in flat: groups.setdefault(p[0], []).append((p, a))
        order = {'ping_api': 0, 'ping_operator': 1, 'self': 2, 'super': 3, 'crate': 4}
        lines = []
        for r in sorted(groups, key=lambda r: order.get(r, 9)):
            lines += [f"{m.group('ind')}{m.group('vis') or ''}use {x};" for x in emit(groups[r])]
        out += '\n'.join(lines)
        pos = m.end()
    out += text[pos:]
    for a, b in maps:
        out = re.sub(r'(?<![\w:])' + re.escape(a) + r'(?=::)', b, out)
    return out
