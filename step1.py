import sys, pathlib
sys.path.insert(0, '/tmp/w/tool')
from uses import rewrite
W = pathlib.Path('/tmp/w/op')
api = ['crd', 'kinds', 'names', 'quantity']
def maps(root, own):
    m = [(f'{root}::status::condition::ConditionType', 'ping_api::condition::ConditionType'),
         (f'{root}::status::condition', f'{own}::condition'),
         (f'{root}::status::reason', 'ping_api::reason'),
         (f'{root}::servers', 'ping_api::roles'),
         (f'{root}::refs', f'{own}::cluster_state'),
         (f'{root}::foreign', f'{own}::external'),
         (f'{root}::figures', f'{own}::stats'),
         (f'{root}::object', f'{own}::desired'),
         (f'{root}::build::env::is_ours', 'ping_api::env::is_reserved')]
    m += [(f'{root}::{a}', f'ping_api::{a}') for a in api]
    return m
for f in list((W/'operator/controller/src').rglob('*.rs')):
    t = f.read_text(); f.write_text(rewrite(t, maps('crate', 'crate') + maps('ping_operator', 'ping_operator'), ['crate', 'ping_operator']))
for d in ['operator/controller/tests', 'operator/kubectl-pingpipeline', 'tests', 'bench']:
    for f in list((W/d).rglob('*.rs')):
        t = f.read_text(); f.write_text(rewrite(t, maps('ping_operator', 'ping_operator'), ['ping_operator']))
