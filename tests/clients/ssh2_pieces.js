// All that npm's ssh2 can do, at once on one connection: WAY HOST PORT USER KEY HOST_KEY HERE THERE COMMAND
// [JUMP_USER JUMP_HOST JUMP_PORT]. Prints what `drive.sh` prints of a client.
const fs = require('fs');
const { Client } = require('ssh2');

const [way, host, port, user, key, hostKey, here, there, command, ...jump] = process.argv.slice(2);
const payload = fs.readFileSync(here);
const env = { LC_COUNTERSIGN_REASON: process.env.LC_COUNTERSIGN_REASON };
const pinned = Buffer.from(hostKey.split(' ')[1], 'base64');

function connect(host, port, username, sock) {
  return new Promise((ready, failed) => {
    const client = new Client();
    client.on('ready', () => ready(client)).on('error', failed);
    const hostVerifier = (shown) => pinned.equals(shown);
    client.connect({ host, port: Number(port), username, sock, privateKey: fs.readFileSync(key), hostVerifier, readyTimeout: 60000 });
  });
}

const remarks = (err) => err.toString().replace(/\r/g, '').split('\n').filter((line) => line && !line.startsWith('countersign: ')).join(' ');
const same = (bytes) => (payload.equals(bytes) ? 'same' : `other:${bytes.length}`);
const calls = (call) => new Promise((done, failed) => call((error, value) => (error ? failed(error) : done(value))));

async function heard(stream, onError) {
  const out = [];
  let err = Buffer.alloc(0), status = null;
  stream.on('data', (data) => out.push(data));
  stream.stderr.on('data', (data) => {
    err = Buffer.concat([err, data]);
    if (onError) onError(err);
  });
  stream.on('exit', (code) => (status = code));
  await new Promise((closed) => stream.on('close', closed));
  return { out: Buffer.concat(out), err, status };
}

async function plain(name, starting, data) {
  const stream = await starting;
  const hearing = heard(stream);
  stream.end(data);
  const { out, err, status } = await hearing;
  return `${name} ${status} ${same(out)} ${remarks(err)}`;
}

async function terminal(client) {
  const stream = await calls((done) => client.shell({ term: 'xterm', cols: 100, rows: 30 }, { env }, done));
  let typed = false;
  const type = () => {
    if (!typed) stream.write('PS1=; stty -echo\nif [ -t 0 ]; then echo; echo term=$TERM; fi; exit 5\n');
    typed = true;
  };
  const hearing = heard(stream, (err) => err.includes('is recorded') && type());
  if (way === 'direct') type();
  const { out, status } = await hearing;
  const term = out.toString().match(/^term=(\w+)/m);
  return `terminal ${status} ${term && term[1]}`;
}

async function sftp(client) {
  const files = await calls((done) => client.sftp(env, done));
  await calls((done) => files.fastPut(here, there, done));
  await calls((done) => files.rename(there, `${there}.moved`, done));
  await calls((done) => files.rename(`${there}.moved`, there, done));
  await calls((done) => files.fastGet(there, 'back', done));
  await calls((done) => files.readdir('.', done));
  files.end();
  return `sftp 0 ${same(fs.readFileSync(there))} ${same(fs.readFileSync('back'))}`;
}

(async () => {
  let sock, outer;
  if (jump.length) {
    outer = await connect(jump[1], jump[2], jump[0]);
    sock = await calls((done) => outer.forwardOut('127.0.0.1', 0, host, Number(port), done));
  }
  const client = await connect(host, port, user, sock);
  const script = `cat ${here}; echo err >&2; exit 7\n`;
  const pieces = [
    plain('exec', calls((done) => client.exec(command, { env }, done)), payload),
    plain('shell', calls((done) => client.shell(false, { env }, done)), script),
    sftp(client),
    terminal(client),
  ];
  for (const line of await Promise.all(pieces)) console.log(line);
  client.end();
  if (outer) outer.end();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
