#!/usr/bin/env python3
"""The project's figures: Countersign beside plain ssh and an OpenSSH double hop, in one run.

    tests/bench/bench.py [--binary PATH] [--rounds N] [--out FILE] [TEST …]

TESTs (all of them where none is named):
  open      `ssh WAY true`, a fresh connection on an open grant: median, and the bastion's CPU for it
  bulk      MB/s down and up, and the bastion's CPU seconds per GB, recording on
  beside    MB/s up on a connection with a channel that takes nothing
  files     seconds for sftp and rsync, of 500 files of 4 KB and of 3 that make up a bulk transfer
  echo      a key in a terminal and back: p50 and p99; idle, and while the bastion moves bulk for another
            connection (load) or for the same one (mux), or a channel of the same one takes nothing (stalled)
  memory    --sessions idle terminals: proportional memory (PSS) of the bastion for each
  record    `ls -lR` in a terminal: bytes of the sealed recording per byte shown, CPU seconds per GB
  sync      fsync and fdatasync of the bastion until a session is open, and to its end (needs strace)

Ways are walked in turn, the order moved on every round, so that a busy machine is unfair to all alike:
compare columns of one run, not runs. Everything is on 127.0.0.1 and below one temporary directory.
Needs what tests/run installs. Python's standard library only.
"""

import argparse, collections, ctypes, json, os, pathlib, pwd, select, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ME = pwd.getpwuid(os.getuid()).pw_name
TICK = os.sysconf("SC_CLK_TCK")
CIPHER, KEX = "aes128-gcm@openssh.com", "curve25519-sha256"
# sshj is `ssh -J` through a plain sshd, which sees nothing and records nothing.
WAYS = ["direct", "doublehop", "sshj", "named", "jump"]
TESTS = ["memory", "open", "bulk", "beside", "files", "echo", "record", "sync"]


def keep(pidfile, command):
    """Runs a daemon as a child subreaper: the CPU of its orphans is counted here, not by init."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        os.execvp(command[0], command)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    pathlib.Path(pidfile).write_text(str(os.getpid()))
    while True:
        try:
            pid, _ = os.wait()
        except ChildProcessError:
            return
        if pid == child:
            return


class Lab:
    """A target, a double hop, a bastion, and the ssh_config that leads through each."""

    limits = ["unauthenticated = 2000", "unauthenticated_per_source = 2000", "connections_per_person = 2000"]

    def __init__(self, binary, record="output"):
        self.binary, self.record = str(binary), record
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="countersign-bench-"))
        self.daemons = {}
        (self.dir / "tmp").mkdir()
        for key in ["alice", "bob", "hop", "host"]:
            self.keygen(self.dir / key)
        self.bastion_dir = self.dir / "bastion"
        self.run(self.binary, "init", self.bastion_dir, "--host", "bastion", "--auditor", "bob=" + self.public(self.dir / "bob"))
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        self.target_port = self.sshd("target", "Subsystem sftp internal-sftp\n")
        self.plain_port = self.sshd("plain", "")
        hop = f"""Host target
  HostName 127.0.0.1
  Port {self.target_port}
  IdentityFile {self.dir}/hop
{self.common()}"""
        (self.dir / "hop_config").write_text(hop)
        forced = self.dir / "forced"
        forced.write_text(f'#!/bin/sh\n[ -n "$SSH_TTY" ] && t=-tt || t=-T\nexec ssh -F {self.dir}/hop_config $t target "$SSH_ORIGINAL_COMMAND"\n')
        forced.chmod(0o755)
        self.hop_port = self.sshd("hop", f"ForceCommand {forced}\n")
        self.bastion()
        self.grant()

    def common(self):
        return f"""  User {ME}
  IdentitiesOnly yes
  IdentityAgent none
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  LogLevel ERROR
  Ciphers {CIPHER}
  KexAlgorithms {KEX}
  EscapeChar none
"""

    def run(self, *words, **more):
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True, **more)
        if done.returncode:
            sys.exit(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def keygen(self, path):
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)

    def public(self, path):
        return " ".join(pathlib.Path(f"{path}.pub").read_text().split()[:2])

    def start(self, name, command, ready):
        pidfile = self.dir / f"{name}.pid"
        log = open(self.dir / f"{name}.log", "ab")
        subprocess.Popen([sys.executable, __file__, "--keep", pidfile, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        until(lambda: pidfile.exists() and pidfile.read_text() and ready(), f"{name} is ready: see {self.dir}/{name}.log")
        self.daemons[name] = int(pidfile.read_text())

    def sshd(self, name, more):
        port = free_port()
        ca = self.bastion_dir / "keys/user_ca.pub"
        (self.dir / "principals").mkdir(exist_ok=True)
        (self.dir / "principals" / ME).write_text(f"{ME}@web-1\n")
        keys = "".join(self.public(self.dir / key) + "\n" for key in ["alice", "hop"])
        (self.dir / "authorized_keys").write_text(keys)
        (self.dir / f"{name}.conf").write_text(f"""ListenAddress 127.0.0.1:{port}
HostKey {self.dir}/host
PidFile none
TrustedUserCAKeys {ca}
AuthorizedPrincipalsFile {self.dir}/principals/%u
AuthorizedKeysFile {self.dir}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
PrintLastLog no
LogLevel ERROR
Ciphers {CIPHER}
KexAlgorithms {KEX}
MaxStartups 2000
MaxSessions 2000
{more}""")
        command = [shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin"), "-D", "-e", "-f", str(self.dir / f"{name}.conf")]
        self.start(name, command, lambda: connects(port))
        return port

    def bastion(self):
        policies = self.bastion_dir / "policies"
        settings = self.bastion_dir / "countersign.toml"
        lines = ['listen = ["127.0.0.1:0"]' if line.startswith("listen") else line for line in settings.read_text().splitlines()]
        lines += ["[limits]", *self.limits]
        settings.write_text("\n".join(lines) + "\n")
        shutil.rmtree(policies / "cases", ignore_errors=True)
        (policies / "people.toml").write_text(
            "".join(f'[people.{name}]\ngroups = ["{group}"]\nkeys = ["{self.public(self.dir / name)}"]\n' for name, group in [("alice", "engineers"), ("bob", "leads")]))
        (policies / "targets.toml").write_text(
            f'[targets.web-1]\naddress = "127.0.0.1:{self.target_port}"\nlogins = ["{ME}"]\nhost_keys = ["{self.public(self.dir / "host")}"]\n')
        (policies / "access.cedar").write_text('@record("' + self.record + '") ' + '''
@id("engineers") permit (principal in Group::"engineers", action in Action::"session", resource);
@id("held") @hold("lead") forbid (principal, action in Action::"session", resource);
@id("leads") permit (principal in Group::"leads", action == Action::"approve", resource);
''')
        (policies / "approvals.toml").write_text('[workflows.lead]\napprovers = ["leads"]\nlongest = "12h"\nreason = "optional"\n')
        listening = self.bastion_dir / "state/listening"
        self.start("bastion", [self.binary, "serve", "-c", str(self.bastion_dir)], lambda: listening.exists() and listening.read_text().endswith("\n"))
        self.port = int(listening.read_text().split()[0].rsplit(":", 1)[1])
        for name in ["alice", "bob"]:
            hosts = [("direct", self.target_port, ME, ""), ("doublehop", self.hop_port, ME, ""), ("bastion", self.port, name, ""),
                     ("plain", self.plain_port, ME, ""), ("sshj", self.target_port, ME, "  HostName 127.0.0.1\n  ProxyJump plain\n"),
                     ("named", self.port, f"{ME}=web-1", ""), ("web-1", 22, ME, "  ProxyJump bastion\n"), ("jump", 22, ME, "  HostName web-1\n  ProxyJump bastion\n")]
            text = ""
            for host, port, user, more in hosts:
                address = more or "  HostName 127.0.0.1\n"
                text += f"Host {host}\n{address}  Port {port}\n  User {user}\n"
            text += f"Host *\n  IdentityFile {self.dir}/{name}\n{self.common()}"
            (self.dir / f"{name}.conf").write_text(text)

    def companion(self, person, *words):
        env = dict(os.environ, COUNTERSIGN_SSH=f"ssh -F {self.dir}/{person}.conf", NO_COLOR="1", XDG_STATE_HOME=str(self.dir))
        return self.run(self.binary, "-b", "bastion", "--yes", "--key", self.dir / person, *words, env=env)

    def grant(self):
        self.companion("alice", "request", f"{ME}@web-1", "--for", "12h")
        listed = json.loads(self.companion("bob", "requests", "--pending", "--json"))
        self.companion("bob", "approve", find(listed, "request"))

    def ssh(self, way, *options):
        return ["ssh", "-F", str(self.dir / "alice.conf"), *options, way]

    def root_of(self, way):
        return {"direct": None, "doublehop": self.daemons["hop"], "sshj": self.daemons["plain"]}.get(way, self.daemons["bastion"])

    def close(self):
        for pid in self.daemons.values():
            os.kill(pid, signal.SIGTERM)
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- what /proc says of a bastion ----

def tree(root):
    children = collections.defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            children[int(stat.rsplit(")", 1)[1].split()[1])].append(int(entry))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children[pid]
    return found


def cpu(root):
    """Seconds of user and system time of a daemon and all it ever started."""
    if root is None:
        return 0.0
    ticks = 0
    for pid in tree(root):
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICK


def pss(root):
    total = 0
    for pid in tree(root):
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def quiet(root):
    """Waits until a daemon's tree has stopped working and shrinking."""
    if root is None:
        return
    last, since = None, time.monotonic()
    for _ in range(100):
        now = (len(tree(root)), cpu(root))
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > 0.4:
            return
        time.sleep(0.1)


# ---- small tools ----

def until(there, what, within=30):
    deadline = time.monotonic() + within
    while not there():
        if time.monotonic() > deadline:
            sys.exit(f"not in {within} s: {what}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def find(value, key):
    if isinstance(value, dict):
        return value.get(key) or next((found for inner in value.values() if (found := find(inner, key))), None)
    if isinstance(value, list):
        return next((found for inner in value if (found := find(inner, key))), None)


def size(directory):
    return sum(path.stat().st_size for path in pathlib.Path(directory).rglob("*") if path.is_file())


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p))]


def end(*processes):
    for process in processes:
        process.kill()
        process.wait()


class Terminal:
    """`ssh -tt` in a terminal of our own."""

    def __init__(self, command):
        self.pid, self.fd = os.forkpty()
        if self.pid == 0:
            os.execvp(command[0], command)

    def read(self, within):
        if not select.select([self.fd], [], [], within)[0]:
            return None
        try:
            return os.read(self.fd, 1 << 16)
        except OSError:
            return b""

    def until(self, text, within=30):
        seen = b""
        deadline = time.monotonic() + within
        while text not in seen:
            more = self.read(max(0.0, deadline - time.monotonic()))
            if not more:
                sys.exit(f"no {text!r} in a terminal; it showed {seen[-300:]!r}")
            seen += more
        return seen

    def close(self):
        os.close(self.fd)
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)


# ---- the measurements ----

class Bench:
    def __init__(self, lab, a):
        self.lab, self.a, self.rows = lab, a, []

    def put(self, test, way, **values):
        row = dict(test=test, way=way, load=round(os.getloadavg()[0], 2), **values)
        self.rows.append(row)
        print(json.dumps(row), file=sys.stderr)
        if self.a.out:
            with open(self.a.out, "a") as out:
                out.write(json.dumps(row) + "\n")

    def turns(self, ways=WAYS):
        for turn in range(self.a.rounds):
            shift = turn % len(ways)
            yield from ways[shift:] + ways[:shift]

    def open(self):
        times, work, opens = collections.defaultdict(list), collections.Counter(), 10
        for way in self.turns():
            root = self.lab.root_of(way)
            quiet(root)
            before = cpu(root)
            for _ in range(opens):
                started = time.monotonic()
                subprocess.run(self.lab.ssh(way) + ["true"], check=True, stdin=subprocess.DEVNULL)
                times[way].append((time.monotonic() - started) * 1000)
            quiet(root)
            work[way] += cpu(root) - before
        for way in WAYS:
            self.put("open", way, p50_ms=statistics.median(times[way]), p95_ms=percentile(times[way], 0.95), cpu_ms=1000 * work[way] / len(times[way]))

    def bulk(self):
        count = self.a.mb * 1_000_000
        for way in self.turns():
            for direction in ["down", "up"]:
                root = self.lab.root_of(way)
                quiet(root)
                before, started = cpu(root), time.monotonic()
                if direction == "down":
                    subprocess.run(self.lab.ssh(way) + [f"head -c {count} /dev/zero"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                else:
                    source = subprocess.Popen(["head", "-c", str(count), "/dev/zero"], stdout=subprocess.PIPE)
                    subprocess.run(self.lab.ssh(way) + ["cat > /dev/null"], check=True, stdin=source.stdout)
                took = time.monotonic() - started
                quiet(root)
                self.put(f"bulk {direction}", way, mb_s=count / 1e6 / took, cpu_s_gb=(cpu(root) - before) / (count / 1e9))

    def shared(self, way):
        """A connection that others share: its process, and the options that share it."""
        path = self.lab.dir / "tmp" / f"{way}.{time.monotonic_ns()}"
        master = subprocess.Popen(self.lab.ssh(way, "-M", "-N", "-S", str(path)), stdin=subprocess.DEVNULL)
        until(path.exists, "a shared connection")
        return master, ["-S", str(path)]

    def stall(self, way, share):
        """A channel that takes nothing, and is full."""
        zeros = subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE)
        stalled = subprocess.Popen(self.lab.ssh(way, *share) + ["exec sleep 1000"], stdin=zeros.stdout)
        time.sleep(2)
        return [stalled, zeros]

    def beside(self):
        count = self.a.mb * 1_000_000
        for way in self.turns():
            master, share = self.shared(way)
            stalled = self.stall(way, share)
            started = time.monotonic()
            source = subprocess.Popen(["head", "-c", str(count), "/dev/zero"], stdout=subprocess.PIPE)
            subprocess.run(self.lab.ssh(way, *share) + ["cat > /dev/null"], check=True, stdin=source.stdout)
            self.put("beside", way, mb_s=count / 1e6 / (time.monotonic() - started))
            end(*stalled, master)

    def files(self):
        small, large = self.lab.dir / "tmp/small", self.lab.dir / "tmp/large"
        for directory, files, each in [(small, 500, 4096), (large, 3, self.a.mb * 1_000_000 // 3)]:
            directory.mkdir()
            for n in range(files):
                with open("/dev/urandom", "rb") as noise, open(directory / str(n), "wb") as file:
                    file.write(noise.read(each))
        config, there = self.lab.dir / "alice.conf", self.lab.dir / "tmp/there"
        # The double hop's forced command knows no subsystem.
        for way in self.turns([way for way in WAYS if way != "doublehop"]):
            for name, directory in [("small", small), ("large", large)]:
                for tool, words, script in [
                    ("sftp", ["sftp", "-q", "-b", "-", "-F", config, way], f"mkdir {there}\nput -r {directory} {there}/up\nget -r {there}/up {there}/down\n"),
                    ("rsync", ["sh", "-ec", f"mkdir {there}; rsync -r -e 'ssh -F {config}' {directory}/ {way}:{there}/up; rsync -r -e 'ssh -F {config}' {way}:{there}/up/ {there}/down"], ""),
                ]:
                    shutil.rmtree(there, ignore_errors=True)
                    started = time.monotonic()
                    self.lab.run(*words, input=script)
                    self.put(f"{tool} {name}", way, s=time.monotonic() - started)
                    subprocess.run(["diff", "-r", directory, there / "down"], check=True)
        shutil.rmtree(there)

    def echo(self):
        for kind in ["idle", "load", "mux", "stalled"]:
            for way in self.turns():
                path = self.lab.dir / "tmp" / f"{way}.{time.monotonic_ns()}"
                share = ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}"] if kind in ("mux", "stalled") else []
                terminal = Terminal(self.lab.ssh(way, "-tt", *share) + ["stty raw -echo; echo READY; cat"])
                terminal.until(b"READY")
                noise = stalled = None
                if kind == "stalled":
                    stalled = self.stall(way, ["-o", "ControlMaster=no", *share[2:]])
                elif kind != "idle":
                    share = ["-o", "ControlMaster=no", *share[2:]] if share else []
                    noise = subprocess.Popen(self.lab.ssh(way, *share) + ["exec cat /dev/zero"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                    time.sleep(1)
                times = []
                for n in range(self.a.keys):
                    started = time.monotonic()
                    os.write(terminal.fd, b"k")
                    if not terminal.read(20):
                        break
                    times.append((time.monotonic() - started) * 1000)
                    time.sleep(0.004 + 0.012 * (n % 7) / 7)
                if noise:
                    end(noise)
                if stalled:
                    end(*stalled)
                terminal.close()
                if len(times) < self.a.keys:
                    self.put(f"echo {kind}", way, p50_ms=20000.0, p99_ms=20000.0)
                else:
                    self.put(f"echo {kind}", way, p50_ms=statistics.median(times), p99_ms=percentile(times, 0.99))

    def memory(self):
        for way in WAYS[1:]:
            root = self.lab.root_of(way)
            quiet(root)
            before, terminals = pss(root), []
            for first in range(0, self.a.sessions, 8):
                batch = [Terminal(self.lab.ssh(way, "-tt") + ["stty -echo; echo READY; cat"]) for _ in range(min(8, self.a.sessions - first))]
                for terminal in batch:
                    terminal.until(b"READY", 60)
                terminals += batch
            time.sleep(2)
            work = cpu(root)
            time.sleep(5)
            grown, idle = pss(root) - before, (cpu(root) - work) / 5
            for terminal in terminals:
                terminal.close()
            time.sleep(3)
            quiet(root)
            self.put("memory", way, sessions=len(terminals), kib_each=grown / len(terminals), idle_cpu_pct=100 * idle, kept_mib=(pss(root) - before) / 1024)

    def record(self):
        text = self.lab.dir / "tmp/ls.txt"
        with open(text, "wb") as out:
            subprocess.run("ls -lR /usr /etc /var/lib 2>/dev/null | head -c 20000000", shell=True, stdout=out)
        recordings = self.lab.bastion_dir / "recordings"
        spools = lambda: [path for path in recordings.rglob("*") if path.is_file() and "spool" in str(path.relative_to(recordings))]
        for way in self.turns():
            root = self.lab.root_of(way)
            quiet(root)
            before, had, started = cpu(root), size(recordings), time.monotonic()
            terminal, raw = Terminal(self.lab.ssh(way, "-tt") + [f"cat {text}"]), 0
            while more := terminal.read(120):
                raw += len(more)
            took = time.monotonic() - started
            terminal.close()
            values = {}
            if way in ("named", "jump"):
                until(lambda: not spools(), "the recording is sealed", 60)
                values = dict(ratio=(size(recordings) - had) / raw)
            quiet(root)
            self.put("record", way, mb_s=raw / 1e6 / took, cpu_s_gb=(cpu(root) - before) / (raw / 1e9), **values)

    def sync(self):
        if not shutil.which("strace"):
            print("sync: strace is missing; left out", file=sys.stderr)
            return
        for way in ["named", "jump"]:
            terminals = []
            opened = self.traced(10, lambda: terminals.append(self.terminal(way)))
            for terminal in terminals:
                terminal.close()
            whole = self.traced(20, lambda: subprocess.run(self.lab.ssh(way) + ["true"], check=True, stdin=subprocess.DEVNULL))
            self.put("sync", way, per_open=opened, per_session=whole)

    def terminal(self, way):
        terminal = Terminal(self.lab.ssh(way, "-tt") + ["stty -echo; echo READY; cat"])
        terminal.until(b"READY", 60)
        return terminal

    def traced(self, times, act):
        """Calls that reach the disk, for each of so many acts."""
        counted = self.lab.dir / "tmp/strace"
        server = tree(self.lab.daemons["bastion"])[1]
        trace = subprocess.Popen(["strace", "-f", "-qq", "-c", "-e", "trace=fsync,fdatasync", "-o", counted, "-p", str(server)], stderr=subprocess.DEVNULL)
        time.sleep(1)
        for _ in range(times):
            act()
        time.sleep(0.5)
        trace.send_signal(signal.SIGINT)
        trace.wait()
        return sum(int(line.split()[3]) for line in counted.read_text().splitlines() if line.strip().endswith("sync")) / times


COLUMNS = [
    ("open", "p50_ms", "open on an open grant, p50 ms"), ("open", "p95_ms", "open, p95 ms"), ("open", "cpu_ms", "bastion CPU of an open, ms"),
    ("bulk down", "mb_s", "bulk down, MB/s"), ("bulk up", "mb_s", "bulk up, MB/s"),
    ("bulk down", "cpu_s_gb", "bulk down, bastion CPU-s/GB"), ("bulk up", "cpu_s_gb", "bulk up, bastion CPU-s/GB"),
    ("beside", "mb_s", "bulk up beside a stalled channel, MB/s"),
    *[(f"{tool} {size}", "s", f"{tool} of {words} there and back, s") for tool in ("sftp", "rsync") for size, words in [("small", "500 small files"), ("large", "3 large files")]],
    *[(f"echo {kind}", f"p{p}_ms", f"key echo {words}, p{p} ms") for kind, words in [("idle", "idle"), ("load", "beside bulk"), ("mux", "on a connection with bulk"), ("stalled", "on a connection with a stalled channel")] for p in (50, 99)],
    ("memory", "kib_each", "memory of an idle terminal, KiB"), ("memory", "idle_cpu_pct", "idle CPU of all of them, %"), ("memory", "kept_mib", "memory kept after they closed, MiB"),
    ("record", "mb_s", "terminal text, MB/s"), ("record", "cpu_s_gb", "terminal text, bastion CPU-s/GB"), ("record", "ratio", "recording / raw, `ls -lR`"),
    ("sync", "per_open", "fsync and fdatasync until it is open"), ("sync", "per_session", "… and to its end and seal"),
]


def report(rows):
    print("| | " + " | ".join(WAYS) + " |\n|---|" + "---:|" * len(WAYS))
    for test, metric, title in COLUMNS:
        values = {way: [row[metric] for row in rows if row["test"] == test and row["way"] == way and metric in row] for way in WAYS}
        middle = {way: statistics.median(found) for way, found in values.items() if found}
        if not middle:
            continue
        base = middle.get("doublehop")
        cell = lambda way: "–" if way not in middle else f"{middle[way]:.3g}" + (f" ({middle[way] / base:.2f})" if base and way != "doublehop" else "")
        print(f"| {title} | " + " | ".join(cell(way) for way in WAYS) + " |")
    print("\nMedians; in brackets the ratio to the double hop.")


def main():
    if sys.argv[1:2] == ["--keep"]:
        return keep(sys.argv[2], sys.argv[3:])
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/countersign")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--mb", type=int, default=512, help="megabytes of one bulk transfer")
    p.add_argument("--keys", type=int, default=300, help="keys of one echo measurement")
    p.add_argument("--sessions", type=int, default=200)
    p.add_argument("--record", choices=["full", "output", "metadata"], default="output", help="how much of a session is kept")
    p.add_argument("--out", help="append every row here as JSON")
    p.add_argument("tests", nargs="*", metavar="TEST", help=", ".join(TESTS))
    a = p.parse_args()
    if unknown := [test for test in a.tests if test not in TESTS]:
        p.error(f"no test {unknown[0]}: {', '.join(TESTS)}")
    if not a.binary.exists():
        sys.exit(f"{a.binary} is missing: cargo build --release --locked, or name another with --binary")
    lab = Lab(a.binary, a.record)
    try:
        bench = Bench(lab, a)
        for test in a.tests or TESTS:
            getattr(bench, test)()
        report(bench.rows)
    finally:
        lab.close()


if __name__ == "__main__":
    main()
