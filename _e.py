import claus.utils.startup, sys, tempfile, shutil
sys.path.insert(0,"/work/w_kills")
from tests.faults import scripts, works
f=tempfile.mkdtemp(prefix="faults"); b=scripts.Bench.make(f); w=works.EXPORT
r=b.fresh(w); s,x=scripts.in_child(w,r,b.data,before=scripts.at_operation(0,r,scripts.fill_disk)); print(s,x[-900:],sorted(p.name for p in r.iterdir()),flush=True)
shutil.rmtree(f)
