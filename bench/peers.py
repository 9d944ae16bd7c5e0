#!/usr/bin/env python3
"""i2 beside its peers: seeded workloads, one driver for each program, the same measures for all of them.

    peers.py gen                                                make the workload trees
    peers.py once [--wl 1,2,3,4] [--peers a,b] [--rounds 3]     parts A, B, C
    peers.py live [--peers a,b] [--parts G,D,E,F]               parts D, E, F, G
    peers.py pgcheck | table

README.md tells what the parts and workloads are. Linux, root. All runs happen in a private network namespace with nothing but
lo, so that lo's byte counter is the peers' alone. BENCH_DIR is where it works, BENCH_DATA where the workloads are, which it
only reads, BENCH_RES the result file, BENCH_I2 the i2 command.
"""

import sys, os, time, json, random, subprocess, shutil, signal, threading, argparse, statistics as st, hashlib, sqlite3
import urllib.request, stat, re, glob

HERE = os.path.dirname(os.path.abspath(__file__))
W = os.path.abspath(os.environ.get("BENCH_DIR", HERE + "/work"))
DATA, RUN, LOG = os.path.abspath(os.environ.get("BENCH_DATA", W + "/data")), W + "/run", W + "/log"
I2 = os.environ.get("BENCH_I2", os.path.dirname(HERE) + "/.venv/bin/i2")
RES = os.environ.get("BENCH_RES", W + "/results.json")
GiB = 1 << 30
HZ = os.sysconf("SC_CLK_TCK")
PGBIN = "/usr/lib/postgresql/15/bin"
RSH = ["rsync", "-aH", "--numeric-ids", "--delete"]
RP = 18730


# ---------------------------------------------------------------- workloads
def gen_blob(path, size, seed, half=False):
    r = random.Random(seed)
    with open(path, "wb") as f:
        left = size
        while left > 0:
            n = min(left, 1 << 20)
            if half:  # each MiB: 512 KiB random, 512 KiB of text-like rows
                a = r.randbytes(n // 2)
                row = b"%020d;item;name=%08x;state=OK;qty=1;note=the quick brown fox\n" % (left, r.getrandbits(32))
                f.write(a + (row * (n // 2 // len(row) + 1))[: n - n // 2])
            else:
                f.write(r.randbytes(n))
            left -= n


def gen_small(root, n, dirs, seed, size=4096, prefix="f"):
    r = random.Random(seed)
    out = []
    for d in range(dirs):
        os.makedirs(f"{root}/d{d:03d}", exist_ok=True)
    for i in range(n):
        p = f"d{i % dirs:03d}/{prefix}{i:06d}"
        with open(f"{root}/{p}", "wb") as f:
            f.write(r.randbytes(size))
        out.append(p)
    return out


def gen_real(root, limit_files=60000, limit_bytes=int(1.4 * GiB)):
    os.makedirs(root)
    nf = nb = 0
    for src in (
        "/usr/lib/python3",
        "/usr/lib/python3.11",
        "/usr/share",
        "/usr/include",
        "/usr/lib/gcc",
        "/usr/lib/git-core",
    ):
        if os.path.isdir(src) and nf < limit_files and nb < limit_bytes:
            subprocess.run(["cp", "-a", "--parents", src, root + "/"], check=False, stderr=subprocess.DEVNULL)
            nf = sum(len(f) + len(d) for _, d, f in os.walk(root))
            nb = int(subprocess.check_output(["du", "-sb", root]).split()[0])
    r = random.Random(4)
    fs = [os.path.join(d, f) for d, _, ff in os.walk(root) for f in ff]
    fs = sorted(f for f in fs if os.path.isfile(f) and not os.path.islink(f))
    os.makedirs(root + "/hl", exist_ok=True)
    for i, f in enumerate(r.sample(fs, 1500)):
        os.link(f, f"{root}/hl/l{i}")


def mutate(path, pages, seed):
    r = random.Random(seed)
    n = os.path.getsize(path) // 4096
    with open(path, "r+b") as f:
        for p in r.sample(range(n), pages):
            f.seek(p * 4096)
            f.write(r.randbytes(4096))
        f.flush()
    t = time.time_ns()
    os.utime(path, ns=(t, t))


def gen():
    os.makedirs(DATA, exist_ok=True)
    for k, fn in (
        ("1", lambda p: (os.makedirs(p), gen_blob(p + "/big", 2 * GiB, 1))),
        ("2", lambda p: (os.makedirs(p), gen_blob(p + "/big", 2 * GiB, 2, True))),
        ("3", lambda p: gen_small(p, 50000, 100, 3)),
        ("4", gen_real),
    ):
        p = f"{DATA}/wl{k}"
        if not os.path.exists(p):
            fn(p)
            print("made", p, flush=True)
    os.sync()


# ---------------------------------------------------------------- measuring
def tree(pids):
    out, todo = [], list(pids)
    while todo:
        p = todo.pop()
        out.append(p)
        try:
            for t in os.listdir(f"/proc/{p}/task"):
                try:
                    todo += [int(x) for x in open(f"/proc/{p}/task/{t}/children").read().split()]
                except OSError:
                    pass
        except OSError:
            pass
    return out


def cpu_of(pids):
    s = 0
    for p in tree(pids):
        try:
            v = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
            s += sum(int(x) for x in v[11:15])
        except OSError:
            pass
    return s / HZ


def rss_of(pids):
    s = 0
    for p in tree(pids):
        try:
            s += int(open(f"/proc/{p}/statm").read().split()[1]) * 4096
        except (OSError, IndexError):
            pass
    return s


def io_of(pids):
    r = w = 0
    for p in tree(pids):
        try:
            d = dict(l.split(": ") for l in open(f"/proc/{p}/io").read().splitlines())
            r += int(d["rchar"])
            w += int(d["wchar"])
        except (OSError, KeyError):
            pass
    return r, w


def lo_bytes():
    for l in open("/proc/net/dev"):
        if l.strip().startswith("lo:"):
            return int(l.split(":")[1].split()[0])
    return 0


class Meas:
    """wall, cpu, peak rss, rchar/wchar, wire of a piece of work done by daemons (pids) plus commands run through .cmd()"""

    def __init__(s, pids):
        s.pids = list(pids)
        s.extra = set()
        s.cpu = 0
        s.r = s.w = 0
        s.rss = 0
        s.on = True
        s.rc = []

    def _samp(s):
        while s.on:
            s.rss = max(s.rss, rss_of(list(s.pids) + list(s.extra)))
            time.sleep(0.05)

    def __enter__(s):
        s.c0 = cpu_of(s.pids)
        s.io0 = io_of(s.pids)
        s.l0 = lo_bytes()
        s.t0 = time.monotonic()
        s.t1 = None
        s.th = threading.Thread(target=s._samp, daemon=True)
        s.th.start()
        return s

    def cmd(s, argv, env=None, log=None):
        out = open(log or LOG + "/cmd.log", "ab")
        p = subprocess.Popen(
            argv,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env=dict(os.environ, **(env or {})),
            shell=isinstance(argv, str),
        )
        s.extra.add(p.pid)
        os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
        t = time.monotonic()
        io = io_of([p.pid])
        _, rc, ru = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(rc)
        s.extra.discard(p.pid)
        s.cpu += ru.ru_utime + ru.ru_stime
        s.r += io[0]
        s.w += io[1]
        s.rc.append(p.returncode)
        s.t1 = t
        return p.returncode

    def __exit__(s, *a):
        s.wall = (s.t1 or time.monotonic()) - s.t0
        time.sleep(0.1)
        s.on = False
        s.th.join()
        s.cpu += cpu_of(s.pids) - s.c0
        i = io_of(s.pids)
        s.r += i[0] - s.io0[0]
        s.w += i[1] - s.io0[1]
        s.wire = lo_bytes() - s.l0

    def d(s):
        return dict(
            wall=round(s.wall, 3),
            cpu=round(s.cpu, 2),
            rss_mb=round(s.rss / 1e6, 1),
            rchar_mb=round(s.r / 1e6, 1),
            wchar_mb=round(s.w / 1e6, 1),
            wire_mb=round(s.wire / 1e6, 3),
            rc=s.rc,
        )


IGN = re.compile(r"^(\.stfolder|\.stversions|\.stignore|\.unison.*)$")


def snap(root, content=False):
    out = {}

    def rec(p, rel):
        try:
            es = list(os.scandir(p))
        except FileNotFoundError:
            return
        for e in es:
            if IGN.match(e.name):
                continue
            r = rel + "/" + e.name if rel else e.name
            try:
                s = e.stat(follow_symlinks=False)
                if stat.S_ISDIR(s.st_mode):
                    out[r] = ("d", s.st_mode & 0o7777)
                    rec(e.path, r)
                elif stat.S_ISLNK(s.st_mode):
                    out[r] = ("l", os.readlink(e.path))
                elif stat.S_ISREG(s.st_mode):
                    out[r] = ("f", s.st_mode & 0o7777, s.st_size) + (
                        (hashlib.blake2b(open(e.path, "rb").read(), digest_size=8).digest(),) if content else ()
                    )
                else:
                    out[r] = ("s",)
            except FileNotFoundError:
                out[r] = None

    rec(root, "")
    return out


def diff(a, b, content=True):
    x, y = snap(a, content), snap(b, content)
    mis = [k for k in x if k not in y]
    ext = [k for k in y if k not in x]
    dif = [k for k in x if k in y and x[k] != y[k]]
    return dict(missing=len(mis), extra=len(ext), differ=len(dif), ex=(mis[:3], ext[:3], dif[:3]))


def same(d):
    return not (d["missing"] or d["extra"] or d["differ"])


def rmtree(p):
    subprocess.run(["rm", "-rf", p], check=True)


def load():
    return json.load(open(RES)) if os.path.exists(RES) else []


def put(**k):
    r = load()
    k["at"] = time.strftime("%H:%M:%S")
    r.append(k)
    json.dump(r, open(RES + ".tmp", "w"), indent=0)
    os.replace(RES + ".tmp", RES)
    print({a: b for a, b in k.items() if a != "rows"}, flush=True)


# ---------------------------------------------------------------- drivers
class Cmd:
    """once/quick/strict/delta: command templates ({src} {dst} {run}), live: list of long-running commands, daemons: helpers started first"""

    def __init__(
        s,
        name,
        once=None,
        quick=None,
        strict=None,
        delta=None,
        live=None,
        daemons=(),
        env=None,
        note="",
        pre=None,
        target=True,
    ):
        s.name, s.once, s.quick, s.strict, s.live, s.daemons, s.env, s.note, s.pre, s.target = (
            name,
            once,
            quick or once,
            strict,
            live,
            daemons,
            env or {},
            note,
            pre,
            target,
        )
        s.delta = delta if isinstance(delta, dict) else ({"delta": delta or once} if (delta or once) else {})
        s.procs = []

    def f(s, c, src, dst):
        m = dict(src=src, dst=dst, run=s.run, rp=RP, i2=I2)
        return [x.format(**m) for x in c] if isinstance(c, list) else c.format(**m)

    def spawn(s, c, src, dst):
        c = s.f(c, src, dst)
        out = open(f"{LOG}/{s.name}.log", "ab")
        env = {k: v.format(run=s.run) for k, v in s.env.items()}
        p = subprocess.Popen(
            c if isinstance(c, list) else "exec " + c,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            shell=not isinstance(c, list),
            env=dict(os.environ, **env),
            start_new_session=True,
        )
        s.procs.append(p)
        return p

    def up(s, src, dst):
        s.run = f"{RUN}/{s.name}"
        rmtree(s.run)
        os.makedirs(s.run)
        os.makedirs(dst, exist_ok=True)
        if s.pre:
            s.pre(s, src, dst)
        for c in s.daemons:
            s.spawn(c, src, dst)
        if s.daemons:  # wait until a new listener exists (private netns), at most 10 s
            t = time.monotonic()
            while time.monotonic() - t < 10 and not any(
                l.split()[3] == "0A" for l in open("/proc/net/tcp").read().splitlines()[1:]
            ):
                time.sleep(0.05)
            time.sleep(0.2)

    def pids(s):
        return [p.pid for p in s.procs]

    def do(s, kind, src, dst, m):
        c = {"first": s.once, "quick": s.quick, "strict": s.strict}.get(kind) or s.delta[kind]
        env = {k: v.format(run=s.run) for k, v in s.env.items()}
        return m.cmd(s.f(c, src, dst), env)

    def has(s, kind):
        return bool({"first": s.once, "quick": s.quick, "strict": s.strict}.get(kind) or s.delta.get(kind))

    def live_up(s, src, dst):
        s.up(src, dst)
        for c in s.live:
            s.spawn(c, src, dst)

    def alive(s):
        return all(p.poll() is None for p in s.procs)

    def down(s):
        for p in reversed(s.procs):
            if p.poll() is None:
                try:
                    os.killpg(p.pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
        for p in s.procs:
            try:
                p.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait()
        s.procs = []


def rsyncd_conf(s, src, dst):
    open(s.run + "/rsyncd.conf", "w").write(
        f"port={RP}\naddress=127.0.0.1\nuse chroot=yes\nuid=root\ngid=root\nlog file={s.run}/rsyncd.log\npid file={s.run}/rsyncd.pid\n[m]\npath={dst}\nread only=no\nmunge symlinks=no\n"
    )


RD = ["rsync --daemon --no-detach --config={run}/rsyncd.conf"]
URL = f"rsync://127.0.0.1:{RP}/m/"


def lsy(kind, delay):
    def pre(s, src, dst):
        rsyncd_conf(s, src, dst)
        tgt = dst + "/" if kind == "direct" else URL
        rs = 'rsync={archive=true,hard_links=true,_extra={"--numeric-ids"}}'
        open(s.run + "/lsyncd.lua", "w").write(
            f'settings{{logfile="{s.run}/lsyncd.log",statusFile="{s.run}/status",nodaemon=true,insist=true,inotifyMode="CloseWrite or Modify",maxProcesses={4 if kind == "direct" else 1}}}\nsync{{default.{kind},source="{src}/",target="{tgt}",delay={delay},{rs}}}\n'
        )

    return pre


LS = ["lsyncd -nodaemon {run}/lsyncd.lua"]
UNI = "unison {src} socket://127.0.0.1:18740/{dst} -batch -auto -times -perms -1 -owner -group -numericids -confirmbigdel=false -ignorearchives=false -logfile {run}/u.log -silent -force {src}"


def unip(s, src, dst):
    os.makedirs(s.run + "/c")
    os.makedirs(s.run + "/s")


UNS = ["env UNISON={run}/s unison -socket 18740 -listen 127.0.0.1"]


I2ONCE = "{i2} replicate --once --state-dir {run}/state"
I2TLS = " --config {run}/work.toml --compress none {src} backup:{dst}"


def i2_nodes(s, src, dst):
    """Configs of a backup node and a work node that trust each other."""

    def put_config(name, rest):
        head = f'[node]\nname = "{name}"\nstate_dir = "{s.run}/{name}-state"\n'
        open(f"{s.run}/{name}.toml", "w").write(head + rest)

    prints = {}
    for name in ("work", "backup"):
        put_config(name, "")
        said = subprocess.check_output([I2, "node", "id", "--json", "--config", f"{s.run}/{name}.toml"])
        prints[name] = json.loads(said)["fingerprint"]
    mine = '[backup]\nlisten = "127.0.0.1"\nallow_roots = ["{}"]\n[[backup.peer]]\nname = "work"\nfingerprint = "{}"\n'
    put_config("backup", mine.format(os.path.dirname(dst), prints["work"]))
    theirs = '[work]\n[[work.peer]]\nname = "backup"\naddress = "127.0.0.1"\nfingerprint = "{}"\n'
    put_config("work", theirs.format(prints["backup"]))


class Syncthing(Cmd):
    P = (18751, 18752)

    def api(s, i, method, path, body=None, timeout=600):
        rq = urllib.request.Request(
            f"http://127.0.0.1:{s.P[i]}/rest/{path}",
            method=method,
            headers={"X-API-Key": "k"},
            data=json.dumps(body).encode() if body is not None else None,
        )
        with urllib.request.urlopen(rq, timeout=timeout) as r:
            t = r.read()
        return json.loads(t) if t.strip() else None

    def up(s, src, dst):
        s.run = f"{RUN}/{s.name}"
        rmtree(s.run)
        os.makedirs(dst, exist_ok=True)
        ids = []
        for i in (0, 1):
            h = f"{s.run}/h{i}"
            os.makedirs(h)
            subprocess.run(
                ["syncthing", "generate", "--home=" + h, "--no-default-folder"],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            ids.append(re.search(r'<device id="([^"]+)"', open(h + "/config.xml").read()).group(1))
        s.ids = ids
        for i in (0, 1):
            dev = "".join(
                f'<device id="{ids[j]}" name="n{j}" compression="metadata"><address>tcp://127.0.0.1:{18760 + j}</address><paused>false</paused></device>'
                for j in (0, 1)
            )
            open(f"{s.run}/h{i}/config.xml", "w").write(
                f'<configuration version="36">{dev}<gui enabled="true" tls="false"><address>127.0.0.1:{s.P[i]}</address><apikey>k</apikey></gui><options><listenAddress>tcp://127.0.0.1:{18760 + i}</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser><urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled><autoUpgradeIntervalH>0</autoUpgradeIntervalH><reconnectionIntervalS>1</reconnectionIntervalS><setLowPriority>false</setLowPriority></options></configuration>'
            )
            s.spawn(f"syncthing serve --home={s.run}/h{i} --no-browser --no-restart --no-upgrade", src, dst)
        t = time.monotonic()
        while time.monotonic() - t < 40:
            try:
                if (
                    s.api(0, "GET", "system/connections", timeout=3)["connections"][ids[1]]["connected"]
                    and s.api(1, "GET", "system/connections", timeout=3)["connections"][ids[0]]["connected"]
                ):
                    break
            except (OSError, KeyError):
                pass
            time.sleep(0.2)
        else:
            raise RuntimeError("syncthing did not connect")

    def addf(s, src, dst):
        for i, (p, ty) in enumerate(((src, "sendonly"), (dst, "receiveonly"))):
            os.makedirs(p + "/.stfolder", exist_ok=True)
            s.api(
                i,
                "POST",
                "config/folders",
                dict(
                    id="f",
                    label="f",
                    path=p,
                    type=ty,
                    devices=[dict(deviceID=x) for x in s.ids],
                    rescanIntervalS=3600,
                    fsWatcherEnabled=True,
                    fsWatcherDelayS=1,
                ),
            )

    def wait(s, src, n, big=None, dst=None, tmo=400):
        t = time.monotonic()
        while time.monotonic() - t < tmo:
            try:
                j = s.api(1, "GET", "db/status?folder=f")
                if (
                    j["state"] == "idle"
                    and j["needTotalItems"] == 0
                    and (n is None or j["localFiles"] + j["localSymlinks"] >= n)
                ):
                    break
            except OSError:
                pass
            time.sleep(0.15)
        if big:
            while os.stat(dst + big).st_mtime_ns != os.stat(src + big).st_mtime_ns and time.monotonic() - t < tmo:
                time.sleep(0.02)

    def has(s, kind):
        return kind in ("first", "quick", "delta")

    def do(s, kind, src, dst, m):
        if kind == "first":
            n = (
                int(subprocess.check_output(f"find {src} -not -type d | wc -l", shell=True))
                if not hasattr(s, "n")
                else s.n
            )
            m.t0 = time.monotonic()
            s.addf(src, dst)
            s.wait(src, n)
        else:
            s.api(0, "POST", "db/scan?folder=f")
            s.wait(src, None, "/big" if kind == "delta" else None, dst)
        return 0

    def live_up(s, src, dst):
        s.up(src, dst)
        s.addf(src, dst)
        time.sleep(1)
        s.wait(src, int(subprocess.check_output(f"find {src} -not -type d | wc -l", shell=True)))


DRIVERS = [
    Cmd(
        "rsyncd",
        RSH + ["{src}/", URL],
        strict=RSH + ["-c", "{src}/", URL],
        delta={
            "delta": RSH + ["{src}/", URL],
            "delta-c": RSH + ["-c", "{src}/", URL],
            "delta-inplace": RSH + ["--inplace", "{src}/", URL],
        },
        daemons=RD,
        pre=rsyncd_conf,
        note="rsync:// over lo; no fsync",
    ),
    Cmd("rsyncd-z", RSH + ["-z", "--zc=zstd", "{src}/", URL], daemons=RD, pre=rsyncd_conf, note="zstd"),
    Cmd(
        "rsync-local", RSH + ["{src}/", "{dst}/"], strict=RSH + ["-c", "{src}/", "{dst}/"], note="whole-file; no fsync"
    ),
    Cmd("cp -a", "cp -a {src}/. {dst}/", note="no fsync"),
    Cmd("tar", "tar -C {src} -cf - . | tar -C {dst} -xpf -", note="no fsync"),
    Syncthing("syncthing", live=[1], note="TLS, fsync per file"),
    Cmd(
        "unison",
        UNI,
        strict=UNI + " -fastcheck false",
        live=[UNI + " -repeat 1"],
        daemons=UNS,
        env={"UNISON": "{run}/c"},
        pre=unip,
        note="socket, no TLS",
    ),
    Cmd("lsyncd-d1", live=LS, daemons=RD, pre=lsy("rsync", 1)),
    Cmd("lsyncd-d0", live=LS, daemons=RD, pre=lsy("rsync", 0)),
    Cmd("lsyncd-direct-d1", live=LS, daemons=RD, pre=lsy("direct", 1)),
    Cmd(
        "borg",
        "borg create {run}/repo::a{{now:%s%f}} {src}",
        pre=lambda s, a, b: subprocess.run(
            ["borg", "init", "-e", "none", s.run + "/repo"], check=True, env=dict(os.environ, BORG_BASE_DIR=s.run)
        ),
        env={
            "BORG_BASE_DIR": "{run}",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        },
        target=False,
    ),
    Cmd(
        "restic",
        "restic -q -r {run}/repo --cache-dir {run}/cache backup {src}",
        pre=lambda s, a, b: subprocess.run(
            ["restic", "-q", "-r", s.run + "/repo", "init", "--repository-version", "2"],
            check=True,
            env=dict(os.environ, RESTIC_PASSWORD="x"),
        ),
        env={"RESTIC_PASSWORD": "x"},
        target=False,
    ),
    Cmd(
        "i2",
        I2ONCE + " {src} {dst}",
        strict=I2ONCE + " --verify strict {src} {dst}",
        live=["{i2} replicate --state-dir {run}/state {src} {dst}"],
        note="two processes, socket pairs; durable at the end",
    ),
    Cmd(
        "i2-tls",
        I2ONCE + I2TLS,
        strict=I2ONCE + " --verify strict" + I2TLS,
        live=["{i2} replicate --state-dir {run}/state" + I2TLS],
        daemons=["{i2} node run --config {run}/backup.toml"],
        pre=i2_nodes,
        note="two nodes, TLS 1.3 over lo; durable at the end",
    ),
]


def pick(names, extra=()):
    ds = list(DRIVERS)
    for e in extra:
        n, j = e.split("=", 1)
        ds.append(Cmd(n, **json.loads(j)))
    return [next(d for d in ds if d.name == n) for n in names]


# ---------------------------------------------------------------- A, B, C
def once(names, wls, rounds, extra, deadline):
    for rd in range(rounds):
        for wl in wls:
            for d in pick(names, extra):
                if time.time() > deadline:
                    print("deadline")
                    return
                # a new target each time, never deleted between runs: ext4 skips inodes deleted in the last 1-6 minutes one by one
                # (recently_deleted() in fs/ext4/ialloc.c), which makes creation after an rm -rf up to 10x slower
                src, dst = f"{DATA}/wl{wl}", f"{RUN}/dst{os.getpid()}-{wl}-{rd}-{d.name.replace(' ', '')}"
                if wl == "1":  # part C changes it
                    src = f"{RUN}/src1"
                    if not os.path.exists(src):
                        subprocess.run(["cp", "-a", f"{DATA}/wl1", src], check=True)
                subprocess.run(f"find {src} -type f -print0 | xargs -0 cat > /dev/null", shell=True)  # warm page cache
                os.sync()
                try:
                    d.up(src, dst)

                    def go(kind, part):
                        os.sync()
                        with Meas(d.pids()) as m:
                            d.do(kind, src, dst, m)
                        t = time.monotonic()
                        os.sync()
                        sy = time.monotonic() - t
                        put(part=part, peer=d.name, wl=wl, kind=kind, round=rd, sync_after=round(sy, 3), **m.d())

                    go("first", "A")
                    if any(load()[-1]["rc"]):
                        raise RuntimeError("first mirror failed")
                    if d.target and rd == 0:
                        df = diff(src, dst, wl in "34")
                        put(part="A-verify", peer=d.name, wl=wl, same=same(df), **df)
                    if wl in "34":
                        for k in ("quick", "strict"):
                            if d.has(k) and d.name not in ("cp -a", "tar", "rsyncd-z"):
                                go(k, "B")
                    if wl == "1":
                        for k in d.delta or {"delta": 1}:
                            if d.has(k) and d.name not in ("tar", "rsyncd-z"):
                                mutate(src + "/big", 100, random.randrange(1 << 30))
                                go(k, "C")
                        if d.target and rd == 0:
                            put(
                                part="C-verify",
                                peer=d.name,
                                cmp=subprocess.call(["cmp", "-s", src + "/big", dst + "/big"]),
                            )
                except Exception as e:
                    put(part="error", peer=d.name, wl=wl, err=repr(e))
                finally:
                    d.down()
                    (os.path.isdir(src + "/.stfolder") and os.rmdir(src + "/.stfolder"))
                    if wl in "12":
                        rmtree(dst)  # one inode: deleting it slows nobody, and 2 GiB each would fill the disk


# ---------------------------------------------------------------- D, E, F, G
def until(fn, tmo, step=0.001):
    t = time.monotonic()
    while True:
        if fn():
            return time.monotonic()
        if time.monotonic() - t > tmo:
            return None
        time.sleep(step)


def size(p):
    try:
        return os.stat(p).st_size
    except OSError:
        return -1


def q(v, p):
    v = sorted(v)
    return v[min(len(v) - 1, int(len(v) * p))] if v else None


def settle(src, dst, tmo, content=False):
    t0 = time.monotonic()
    while True:
        d = diff(src, dst, content)
        if same(d):
            return time.monotonic() - t0, d
        if time.monotonic() - t0 > tmo:
            return None, d
        time.sleep(1)


def part_D(d, src, dst, cap, n=200):
    base = src + "/lat"
    os.makedirs(base, exist_ok=True)
    r = random.Random(11)
    lat = {}
    lost = []
    open(base + "/app", "wb").write(b"x" * 100)
    settle(src + "/lat", dst + "/lat", 60)
    end = time.monotonic() + cap
    live = []
    i = 0
    ops = ["create", "append", "rename", "delete"]
    while i < n and time.monotonic() < end:
        op = ops[i % 4]
        i += 1
        time.sleep(r.uniform(0.0, 0.05))
        D = dst + "/lat"
        if op == "create":
            p = f"n{i}"
            open(f"{base}/{p}", "wb").write(r.randbytes(1024))
            ok = lambda: size(f"{D}/{p}") == 1024
            live.append(p)
        elif op == "append":
            with open(base + "/app", "ab") as f:
                f.write(b"y" * 100)
            z = size(base + "/app")
            ok = lambda: size(D + "/app") == z
        elif op == "rename":
            a = live.pop()
            p = a + "r"
            os.rename(f"{base}/{a}", f"{base}/{p}")
            live.append(p)
            ok = lambda: size(f"{D}/{p}") == 1024 and size(f"{D}/{a}") < 0
        else:
            a = live.pop()
            os.unlink(f"{base}/{a}")
            ok = lambda: size(f"{D}/{a}") < 0
        t = time.monotonic()
        e = until(ok, 60)
        if e is None:
            lost.append((op, i))
        else:
            lat.setdefault(op, []).append(e - t)
    allv = [x for v in lat.values() for x in v]
    put(
        part="D",
        peer=d.name,
        n=len(allv),
        lost=lost,
        p50=q(allv, 0.5),
        p99=q(allv, 0.99),
        max=max(allv, default=None),
        by={k: [len(v), round(q(v, 0.5), 4), round(q(v, 0.99), 4)] for k, v in lat.items()},
    )
    big = []
    for k in range(3):
        off = r.randrange(2 * GiB // 4096) * 4096
        b = r.randbytes(4096)
        l0 = lo_bytes()
        c0 = cpu_of(d.pids())
        with open(src + "/big", "r+b") as f:
            f.seek(off)
            f.write(b)
        t = time.monotonic()

        def ok():
            try:
                with open(dst + "/big", "rb") as f:
                    return os.pread(f.fileno(), 4096, off) == b
            except OSError:
                return False

        e = until(ok, 90, 0.005)
        w = None if e is None else e - t
        time.sleep(1.5)
        big.append((w, round((lo_bytes() - l0) / 1e6, 2), round(cpu_of(d.pids()) - c0, 2)))
        if w is None:
            break
    put(part="D-big", peer=d.name, runs=big, wall=st.median([b[0] for b in big]) if all(b[0] for b in big) else None)


def part_E(d, src, dst, secs=60, rate=500, burst=20000):
    # burst
    c0 = cpu_of(d.pids())
    os.makedirs(src + "/burst")
    tb = time.monotonic()
    paths = gen_small(src + "/burst", burst, 200, 21)
    te = time.monotonic()
    i = 0
    while i < len(paths) and time.monotonic() - te < 150:
        if size(f"{dst}/burst/{paths[i]}") == 4096:
            i += 1
        else:
            time.sleep(0.02)
    t1 = time.monotonic() - te
    w, df = settle(src + "/burst", dst + "/burst", 30, True)
    put(
        part="E-burst",
        peer=d.name,
        make=round(te - tb, 2),
        wall=round(t1, 2) if same(df) else None,
        reached=i,
        cpu=round(cpu_of(d.pids()) - c0, 1),
        diff=df,
        alive=d.alive(),
    )
    # sustained
    L = src + "/load"
    r = random.Random(31)
    [os.makedirs(f"{L}/d{k:02d}") for k in range(50)]
    os.makedirs(L + "/m")
    files = []
    pend = {}
    lags = []
    on = [True]

    def watch():
        while on[0] or pend:
            for k, t in list(pend.items()):
                if size(f"{dst}/load/m/{k}") == 64:
                    lags.append(time.monotonic() - t)
                    pend.pop(k, None)
            time.sleep(0.02)

    th = threading.Thread(target=watch, daemon=True)
    th.start()
    c0 = cpu_of(d.pids())
    l0 = lo_bytes()
    t0 = time.monotonic()
    n = 0
    nm = 0
    kinds = {}
    late = 0
    while True:
        now = time.monotonic() - t0
        if now >= secs:
            break
        want = int(now * rate)
        if want - n > rate:
            late = max(late, want - n)
        while n < want:
            n += 1
            x = r.random()
            if x < 0.4 or len(files) < 100:
                p = f"d{r.randrange(50):02d}/f{n:06d}"
                open(f"{L}/{p}", "wb").write(r.randbytes(r.randrange(100, 8192)))
                files.append(p)
                k = "create"
            else:
                j = r.randrange(len(files))
                p = files[j]
                if x < 0.6:
                    with open(f"{L}/{p}", "ab") as f:
                        f.write(b"z" * 100)
                    k = "append"
                elif x < 0.75:
                    nw = f"d{r.randrange(50):02d}/r{n:06d}"
                    os.rename(f"{L}/{p}", f"{L}/{nw}")
                    files[j] = nw
                    k = "rename"
                elif x < 0.9:
                    os.unlink(f"{L}/{p}")
                    files[j] = files[-1]
                    files.pop()
                    k = "delete"
                else:
                    os.chmod(f"{L}/{p}", r.choice((0o600, 0o644, 0o755)))
                    k = "chmod"
            kinds[k] = kinds.get(k, 0) + 1
        if now * 5 > nm:
            k = f"m{nm:05d}"
            nm += 1
            open(f"{L}/m/{k}", "wb").write(b"m" * 64)
            pend[k] = time.monotonic()
        time.sleep(0.004)
    ce = cpu_of(d.pids()) - c0
    te = time.monotonic()
    unseen = len(pend)
    oldest = max([te - t for t in pend.values()], default=0)
    w, df = settle(L, dst + "/load", 60, True)
    on[0] = False
    drained = list(lags)
    np = len(pend)
    pend.clear()
    put(
        part="E-load",
        peer=d.name,
        ops=n,
        rate=round(n / secs),
        kinds=kinds,
        behind=late,
        lag_n=len(drained),
        lag_p50=q(drained, 0.5),
        lag_max=max(drained, default=None),
        unseen_at_end=unseen,
        oldest=round(oldest, 2),
        never=np,
        catchup=round(w, 2) if w is not None else None,
        cpu=round(ce, 1),
        wire_mb=round((lo_bytes() - l0) / 1e6, 1),
        diff=df,
        alive=d.alive(),
    )


SQLW = r"""
import sqlite3,sys,time,os
db,secs=sys.argv[1],float(sys.argv[2])
c=sqlite3.connect(db,isolation_level=None);c.execute('pragma journal_mode=wal');c.execute('pragma synchronous=normal')
c.execute('create table if not exists a(id integer primary key,ts real,b blob)');c.execute('create table if not exists b(id integer primary key,aid int,x text)');c.execute('create index if not exists bi on b(x)')
n=0;t=time.time()
while time.time()-t<secs:
    c.execute('begin');k=c.execute('insert into a(ts,b) values(?,?)',(time.time(),os.urandom(200))).lastrowid;c.execute('insert into b(aid,x) values(?,?)',(k,os.urandom(8).hex()));c.execute('commit');n+=1
print(n/(time.time()-t))
"""


def sq(src, secs):
    return subprocess.Popen(
        [sys.executable, "-c", SQLW, src + "/db/s.db", str(secs)], stdout=subprocess.PIPE, text=True
    )


def copies(dst, rel, out, secs, n, seed, lead=1.0):
    r = random.Random(seed)
    at = sorted(r.uniform(lead, secs - 0.3) for _ in range(n))
    t = time.monotonic()
    got = []
    for i, a in enumerate(at):
        time.sleep(max(0, a - (time.monotonic() - t)))
        o = f"{out}/{i}"
        os.makedirs(os.path.dirname(o), exist_ok=True)
        ts = time.time()
        rc = subprocess.call(["cp", "-a", f"{dst}/{rel}", o], stderr=subprocess.DEVNULL)
        got.append((o, ts, rc))
    return got


def sqcheck(o):
    f = o + "/s.db"
    if not os.path.exists(f) or not os.path.getsize(f):
        return "absent", None
    try:
        c = sqlite3.connect(f)
        ic = c.execute("pragma integrity_check").fetchall()
        if ic != [("ok",)]:
            return "corrupt: " + str(ic[0])[:80], None
        a = c.execute("select count(*),max(ts) from a").fetchone()
        b = c.execute("select count(*) from b").fetchone()
        return ("ok" if a[0] == b[0] else f"unequal {a[0]}/{b[0]}"), a[1]
    except sqlite3.Error as e:
        return "error: " + str(e)[:80], None


def pg(cmd, **k):
    return subprocess.run(
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] + cmd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        **k,
    )


def pg_start(data, port):
    return pg(
        [
            PGBIN + "/pg_ctl",
            "-D",
            data,
            "-w",
            "-t",
            "60",
            "-l",
            f"{W}/pgrun/log{port}",
            "-o",
            f"-p {port} -c listen_addresses= -c unix_socket_directories={W}/pgrun",
            "start",
        ]
    )


def pg_stop(data, mode="immediate"):
    return pg([PGBIN + "/pg_ctl", "-D", data, "-m", mode, "-w", "stop"])


def pg_template():
    t = DATA + "/pgtmpl"
    os.makedirs(W + "/pgrun", exist_ok=True)
    os.chmod(W + "/pgrun", 0o777)
    if os.path.exists(t):
        return t
    os.makedirs(t)
    shutil.chown(t, "postgres", "postgres")
    print(pg([PGBIN + "/initdb", "-D", t, "-A", "trust", "-U", "postgres"]).stdout[-200:])
    open(t + "/postgresql.conf", "a").write("\nmax_wal_size=64MB\nmin_wal_size=32MB\ncheckpoint_timeout=30s\n")
    pg_start(t, 18790)
    print(
        pg(
            [PGBIN + "/pgbench", "-h", W + "/pgrun", "-p", "18790", "-U", "postgres", "-q", "-i", "-s", "5", "postgres"]
        ).stdout[-200:]
    )
    print(pg(["psql", "-h", W + "/pgrun", "-p", "18790", "-U", "postgres", "-c", "create extension amcheck"]).stdout)
    pg_stop(t, "fast")
    return t


def part_F(name, src, dst, out, seed, live=None, sqsecs=12, pgsecs=20):
    """name='none': no peer, the copies come from the source itself"""
    rmtree(out)
    os.makedirs(src + "/db", exist_ok=True)
    p = sq(src, sqsecs)
    got = copies(dst, "db", out + "/sq", sqsecs, 10, seed, 3)
    tps = float(p.communicate()[0])
    res = [sqcheck(o) + (ts,) for o, ts, rc in got]
    lag = [ts - m for s, m, ts in res if s == "ok" and m]
    put(
        part="F-sqlite",
        peer=name,
        tps=round(tps),
        usable=sum(r[0] == "ok" for r in res),
        states=[r[0] for r in res],
        lag_p50=q(lag, 0.5),
        lag_max=max(lag, default=None),
    )
    if live:
        time.sleep(1)
    t = pg_template()
    subprocess.run(["cp", "-a", t, src + "/pg"], check=True)
    if live:
        w, df = settle(src + "/pg", dst + "/pg", 60)
        put(part="F-pgsync", peer=name, wall=w, diff=df)
    r = pg_start(src + "/pg", 18790)
    if r.returncode:
        put(part="error", peer=name, err=r.stdout[-300:])
        return
    if live:
        time.sleep(2)
    b = subprocess.Popen(
        [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            PGBIN + "/pgbench",
            "-h",
            W + "/pgrun",
            "-p",
            "18790",
            "-U",
            "postgres",
            "-n",
            "-c",
            "2",
            "-T",
            str(pgsecs),
            "postgres",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
    )
    got = copies(dst, "pg", out + "/pg", pgsecs, 10, seed + 1)
    o = b.communicate()[0]
    m = re.search(r"tps = ([\d.]+)", o)
    pg_stop(src + "/pg")
    rmtree(src + "/pg")
    put(
        part="F-pg",
        peer=name,
        tps=float(m.group(1)) if m else None,
        out=None if m else o[-300:],
        copies=len(got),
        cp_rc=[g[2] for g in got],
    )


def pgcheck1(o, port):
    subprocess.run(
        f"chown -R postgres:postgres {o}; chmod 700 {o}; rm -f {o}/postmaster.pid; for d in pg_notify pg_replslot pg_snapshots pg_stat pg_stat_tmp pg_tblspc pg_twophase pg_commit_ts pg_dynshmem pg_serial pg_logical/snapshots pg_logical/mappings pg_wal/archive_status; do test -d {o}/$d || echo nodir $d; done",
        shell=True,
        stdout=subprocess.DEVNULL,
    )
    r = pg_start(o, port)
    if r.returncode:
        lg = open(f"{W}/pgrun/log{port}").read()
        e = re.findall(r"(?:PANIC|FATAL):.*", lg)
        pg_stop(o)
        return "no start: " + (e[-1][:90] if e else r.stdout[-90:])
    h = ["-h", W + "/pgrun", "-p", str(port), "-U", "postgres"]
    a = pg([PGBIN + "/pg_amcheck", "--all", "--heapallindexed"] + h)
    s = pg(
        ["psql", "-At"]
        + h
        + [
            "-c",
            "select (select sum(abalance) from pgbench_accounts),(select sum(bbalance) from pgbench_branches),(select sum(tbalance) from pgbench_tellers),(select coalesce(sum(delta),0) from pgbench_history),(select count(*) from pgbench_accounts)",
        ]
    )
    pg_stop(o, "immediate")
    v = s.stdout.strip().split("|")
    if s.returncode:
        return "select: " + s.stdout.strip()[:90]
    if a.returncode:
        return (
            "amcheck: " + ([l for l in a.stdout.strip().splitlines() if "skipping database" not in l] or ["?"])[0][:160]
        )
    return "ok" if len(set(v[:4])) == 1 and v[4] == "500000" else "sums differ: " + "|".join(v)


def pgcheck():
    from concurrent.futures import ThreadPoolExecutor

    for d in sorted(glob.glob(W + "/copies/*/pg")):
        os.chmod(W + "/pgrun", 0o777)
        os.chmod(W + "/copies", 0o755)
        os.chmod(os.path.dirname(d), 0o755)
        os_ = sorted(glob.glob(d + "/*"))
        with ThreadPoolExecutor(2) as ex:
            res = list(
                ex.map(
                    lambda x: (
                        lambda p: (
                            open(f"{W}/pgrun/log{p}", "w").close(),
                            os.chmod(f"{W}/pgrun/log{p}", 0o666),
                            pgcheck1(x[1], p),
                        )[2]
                    )(18800 + x[0]),
                    enumerate(os_),
                )
            )
        put(part="F-pgcheck", peer=d.split("/")[-2], n=len(res), usable=sum(r == "ok" for r in res), states=res)


def live(names, parts, extra, cap, idle, deadline):
    for d in pick(names, extra):
        if time.time() > deadline:
            print("deadline")
            return
        src, dst = f"{RUN}/lsrc-{d.name}", f"{RUN}/ldst-{d.name}"  # one pair a peer: see once()
        rmtree(src)
        rmtree(dst)
        os.makedirs(src)
        subprocess.run(
            f"cp -a {DATA}/wl3 {src}/tree && cp -a {DATA}/wl1/big {src}/big && cp -a {src} {dst}",
            shell=True,
            check=True,
        )
        os.sync()
        if "F" in parts:
            os.makedirs(src + "/db")
            p = sq(src, 5)
            put(part="F-base", peer="none", before=d.name, sqtps=round(float(p.communicate()[0])))
            rmtree(src + "/db")
        try:
            t = time.monotonic()
            d.live_up(src, dst)
            open(src + "/ready", "w").write("r")
            e = until(lambda: size(dst + "/ready") == 1, 200, 0.02)
            put(part="live-start", peer=d.name, wall=None if e is None else round(e - t, 2))
            time.sleep(4)
            if "G" in parts:
                c = cpu_of(d.pids())
                t = time.monotonic()
                time.sleep(idle)
                put(
                    part="G",
                    peer=d.name,
                    cpu_per_min=round((cpu_of(d.pids()) - c) / (time.monotonic() - t) * 60, 3),
                    rss_mb=round(rss_of(d.pids()) / 1e6, 1),
                    secs=idle,
                )
            if "D" in parts:
                part_D(d, src, dst, cap)
            if "E" in parts:
                part_E(d, src, dst)
            if "F" in parts:
                part_F(d.name, src, dst, f"{W}/copies/{d.name}", 41, d)
        except Exception as e:
            import traceback

            traceback.print_exc()
            put(part="error", peer=d.name, err=repr(e))
        finally:
            d.down()
            shutil.copytree(
                d.run, f"{LOG}/run-{d.name}", dirs_exist_ok=True, ignore=shutil.ignore_patterns("index*", "ar*", "fp*")
            ) if os.path.isdir(d.run) else None


# ---------------------------------------------------------------- table
def table():
    rs = load()
    g = {}
    for r in rs:
        if r["part"] in "ABC":
            g.setdefault((r["part"], r["wl"], r["kind"], r["peer"]), []).append(r)
    base = {}
    for k, v in g.items():
        if k[3] == "rsyncd":
            base[k[:3]] = st.median(x["wall"] for x in v)
    print("part wl kind peer | n | wall med [min max] | +sync | cpu | rss MB | rchar MB | wire MB | wall/rsyncd")
    for k in sorted(g):
        v = g[k]
        w = [x["wall"] for x in v]
        md = lambda f: st.median(x[f] for x in v)
        b = base.get(k[:3]) or base.get((k[0], k[1], "delta"))
        print(
            f"{' '.join(k):34s} | {len(v)} | {st.median(w):7.2f} [{min(w):.2f} {max(w):.2f}] | {st.median(x['wall'] + x['sync_after'] for x in v):7.2f} | {md('cpu'):6.2f} | {md('rss_mb'):6.0f} | {md('rchar_mb'):7.0f} | {md('wire_mb'):8.2f} | {st.median(w) / b if b else 0:.2f} {[x['rc'] for x in v if any(x['rc'])] or ''}"
        )
    for r in rs:
        if r["part"] not in "ABC":
            print({k: (round(x, 4) if isinstance(x, float) else x) for k, x in r.items()})


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("what")
    a.add_argument("--wl", default="1,2,3,4")
    a.add_argument("--peers", default="rsyncd,rsync-local,cp -a,tar,syncthing,unison")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--parts", default="G,D,E,F")
    a.add_argument("--dcap", type=float, default=45)
    a.add_argument("--idle", type=float, default=30)
    a.add_argument("--driver", action="append", default=[])
    a.add_argument("--deadline", type=float, default=86400)
    o = a.parse_args()
    [os.makedirs(p, exist_ok=True) for p in (DATA, RUN, LOG)]
    if o.what == "table":
        table()
        sys.exit()
    if o.what == "gen":
        gen()
        sys.exit()
    if not os.environ.get("BENCH_NS"):
        os.execvp(
            "unshare",
            ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", "env", "BENCH_NS=1", sys.executable]
            + sys.argv,
        )
    signal.signal(signal.SIGTERM, lambda *a: sys.exit(143))  # so that finally: d.down() runs
    dl = time.time() + o.deadline
    names = o.peers.split(",")
    if o.what == "once":
        once(names, o.wl.split(","), o.rounds, o.driver, dl)
    elif o.what == "live":
        live(names, set(o.parts.split(",")), o.driver, o.dcap, o.idle, dl)
    elif o.what == "nopeer":  # F baseline: copies of the live source itself
        s = RUN + "/lsrc"
        os.makedirs(s, exist_ok=True)
        part_F("cp-of-source", s, s, W + "/copies/cp-of-source", 41)
    elif o.what == "pgcheck":
        pgcheck()
