// Runs a Node.js handler against the Lambda Runtime API (2018-06-01).
//
// Loads the function named by _HANDLER, then takes one event after another.
// async handlers, callbacks and the context's own done, fail and succeed all
// answer; errors become the documents the managed runtimes make of them.
'use strict';

const fs = require('fs');
const net = require('net');
const path = require('path');
const util = require('util');
const { pathToFileURL } = require('url');

const VERSION = '/2018-06-01/runtime/';
const address = process.env.AWS_LAMBDA_RUNTIME_API;
const taskRoot = process.env.LAMBDA_TASK_ROOT || '/var/task';
const NEXT = `GET ${VERSION}invocation/next HTTP/1.1\r\nHost: ${address}\r\n\r\n`;

let current; // the invocation under way
let requestId; // of current, kept after it for what is logged late

// ---- log lines

for (const [method, level] of [['log', 'INFO'], ['debug', 'DEBUG'], ['info', 'INFO'], ['warn', 'WARN'], ['error', 'ERROR'], ['trace', 'TRACE']]) {
  console[method] = (...args) => {
    let text = util.format(...args);
    if (method === 'trace') text = new Error(text).stack.replace(/^Error: ?/, 'Trace: ');
    writeLog(level, text);
  };
}

function writeLog(level, text) {
  process.stdout.write(`${new Date().toISOString()}\t${requestId}\t${level}\t${text}\n`);
}

function logError(what, error) {
  writeLog('ERROR', `${what} \t${JSON.stringify(forLog(error))}`);
}

// ---- errors

class Fault extends Error {
  constructor(name, message, cause) {
    super(message);
    this.name = name;
    if (cause && cause.stack) this.stack = cause.stack;
  }
}

function isError(e) {
  return util.types.isNativeError(e) || e instanceof Error || (e && e.name && e.message && e.stack);
}

function lines(e) {
  return typeof e.stack === 'string' ? e.stack.split('\n') : [];
}

// The document a client gets.
function document(e) {
  try {
    if (!isError(e)) return { errorType: typeof e, errorMessage: String(e), trace: [] };
    const d = { errorType: e.name, errorMessage: e.message, trace: lines(e) };
    if (e.reason !== undefined) Object.assign(d, { reason: forLog(e.reason), promise: {} });
    return d;
  } catch (_) {
    return { errorType: 'handled', errorMessage: 'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack', trace: [] };
  }
}

// The same for the log, with the error's own properties.
function forLog(e) {
  try {
    if (!isError(e)) return { errorType: typeof e, errorMessage: String(e), stack: [] };
    const d = { errorType: e.name, errorMessage: e.message };
    for (const k of Object.keys(e)) if (!(k in d) && k !== 'name' && k !== 'reason') d[k] = e[k];
    if (e.reason !== undefined) Object.assign(d, { reason: forLog(e.reason), promise: {} });
    d.stack = lines(e);
    JSON.stringify(d); // a property that cannot be written falls out below
    return d;
  } catch (_) {
    return { errorType: 'Error', errorMessage: String(e && e.message), stack: [] };
  }
}

// ---- the connection

const [host, port] = [address.slice(0, address.lastIndexOf(':')), Number(address.slice(address.lastIndexOf(':') + 1))];
const socket = net.connect({ host, port, noDelay: true });
let held = []; // received and not yet taken apart
let have = 0; // bytes in held
let need = 0; // bytes that make the next reply whole, as far as is known
const replies = []; // who waits for the next reply, in order

socket.on('error', () => process.exit(1));
socket.on('close', () => process.exit(1));
socket.on('data', (data) => {
  held.push(data);
  have += data.length;
  if (have < need) return; // a large event comes in many pieces: join them once
  let all = held.length === 1 ? data : Buffer.concat(held);
  for (;;) {
    need = 0;
    const end = all.indexOf('\r\n\r\n');
    if (end < 0) break;
    const [status, ...rest] = all.latin1Slice(0, end).split('\r\n');
    const headers = {};
    for (const line of rest) {
      const i = line.indexOf(':');
      headers[line.slice(0, i).toLowerCase()] = Buffer.from(line.slice(i + 1).trim(), 'latin1').toString('utf8');
    }
    need = end + 4 + Number(headers['content-length'] || 0);
    if (all.length < need) break;
    const body = all.subarray(end + 4, need);
    all = all.subarray(need);
    replies.shift()(Number(status.split(' ')[1]), headers, body);
  }
  held = all.length > 0 ? [all] : [];
  have = all.length;
});

function send(text, body, onReply) {
  replies.push(onReply);
  if (body === undefined) socket.write(text);
  else socket.write(Buffer.concat([Buffer.from(text, 'utf8'), body]));
}

function head(where, kind, length) {
  const error = kind ? `Lambda-Runtime-Function-Error-Type: ${String(kind).replace(/[^\x20-\x7e]/g, '?')}\r\n` : '';
  return `POST ${VERSION}${where} HTTP/1.1\r\nHost: ${address}\r\nContent-Type: application/json\r\n${error}Content-Length: ${length}\r\n\r\n`;
}

function next() {
  current = undefined;
  socket.ref(); // waiting for work keeps the process alive; a handler's wait does not
  send(NEXT, undefined, (status, headers, body) => {
    if (status !== 200) process.exit(1);
    run(headers, body);
  });
}

function fatal(what, error, code) {
  logError(what, error);
  socket.ref();
  const d = document(error);
  const body = Buffer.from(JSON.stringify(d));
  let where;
  if (phase === 'init') where = 'init/error';
  else if (current && !current.answered) where = `invocation/${current.id}/error`;
  else process.exit(code);
  if (current) current.answered = true;
  send(head(where, d.errorType, body.length), body, () => process.exit(code));
}

process.on('uncaughtException', (e) => fatal('Uncaught Exception', e, 129));
process.on('unhandledRejection', (reason) => {
  const e = new Fault('Runtime.UnhandledPromiseRejection', isError(reason) ? reason.toString() : String(reason));
  e.reason = reason;
  fatal('Unhandled Promise Rejection', e, 128);
});

// ---- an invocation

class Invocation {
  constructor(headers) {
    this.id = headers['lambda-runtime-aws-request-id'];
    this.answered = false;
    this.whenIdle = () => this.answer(null, null); // the event loop ran dry
  }

  answer(error, result) {
    if (this.answered) return;
    this.answered = true;
    let d;
    let body;
    if (error === null) {
      try {
        body = Buffer.isBuffer(this.raw) ? this.raw : Buffer.from(JSON.stringify(result === undefined ? null : result) || 'null');
      } catch (_) {
        error = new Error('Unable to stringify response body');
      }
    }
    if (error !== null) {
      logError('Invoke Error', error);
      d = document(error);
      body = Buffer.from(JSON.stringify(d));
    }
    const verb = d ? 'error' : 'response';
    socket.cork(); // the answer and the next question travel together
    send(head(`invocation/${this.id}/${verb}`, d && d.errorType, body.length), body, () => {});
    next();
    socket.uncork();
  }
}

process.on('beforeExit', () => {
  if (phase === 'init') fatal('Uncaught Exception', new Fault('Runtime.NodeJsExit', 'The event loop ended before the function was loaded'), 1);
  else if (current && !current.answered) current.whenIdle();
});

function makeContext(headers, invocation) {
  const env = process.env;
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const json = (s) => (s ? JSON.parse(s) : undefined);
  const finish = (error, result) => invocation.answer(error === undefined || error === null ? null : error, result);
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: json(headers['lambda-runtime-client-context']),
    identity: json(headers['lambda-runtime-cognito-identity']),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: invocation.id,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
    succeed: (result) => finish(null, result),
    fail: (error) => finish(error === undefined || error === null ? 'handled' : error),
    done: finish,
  };
}

function run(headers, body) {
  const invocation = new Invocation(headers);
  current = invocation;
  requestId = invocation.id;
  process.env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'] || '';
  // From here on only what the handler started keeps the event loop busy.
  socket.unref();
  let context;
  try {
    context = makeContext(headers, invocation);
    const event = JSON.parse(body.toString('utf8'));
    const callback = (error, result) => {
      if (error !== undefined && error !== null) invocation.answer(error);
      else if (!context.callbackWaitsForEmptyEventLoop) invocation.answer(null, result);
      else invocation.whenIdle = () => invocation.answer(null, result);
    };
    const returned = handler[STREAMING] ? stream(handler, event, context, invocation) : handler(event, context, callback);
    if (returned && typeof returned.then === 'function') {
      returned.then((result) => invocation.answer(null, result), (error) => invocation.answer(error === undefined || error === null ? 'handled' : error));
    }
  } catch (e) {
    invocation.answer(e);
  }
}

// ---- response streaming: a buffered Invoke gets the whole stream at its end

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');

globalThis.awslambda = {
  streamifyResponse(f) {
    f[STREAMING] = true;
    return f;
  },
  HttpResponseStream: {
    from(s, metadata) {
      s.write(JSON.stringify(metadata));
      s.write(Buffer.alloc(8));
      return s;
    },
  },
};

function stream(f, event, context, invocation) {
  const { Writable } = require('stream');
  return new Promise((resolve, reject) => {
    const chunks = [];
    const out = new Writable({
      write(chunk, _, done) {
        chunks.push(chunk);
        done();
      },
    });
    out.setContentType = () => {};
    out.on('error', reject);
    out.on('finish', () => {
      invocation.raw = Buffer.concat(chunks);
      resolve();
    });
    Promise.resolve(f(event, out, context)).catch(reject);
  });
}

// ---- loading

// isModule reports whether the nearest package.json makes .js files ES modules.
function isModule(file) {
  for (let dir = path.dirname(file); ; dir = path.dirname(dir)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(dir, 'package.json'), 'utf8')).type === 'module';
    } catch (e) {
      if (e.code !== 'ENOENT' && e.code !== 'ENOTDIR') return false;
    }
    if (dir === taskRoot || dir === path.dirname(dir)) return false;
  }
}

async function importModule(file) {
  if (fs.existsSync(`${file}.js`)) return isModule(`${file}.js`) ? import(pathToFileURL(`${file}.js`)) : require(`${file}.js`);
  if (fs.existsSync(`${file}.mjs`)) return import(pathToFileURL(`${file}.mjs`));
  if (fs.existsSync(`${file}.cjs`)) return require(`${file}.cjs`);
  return require(file); // a folder with an index, or the error to report
}

async function load(name) {
  if (name.includes('..')) throw new Fault('Runtime.MalformedHandlerName', `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  const base = path.basename(name);
  const dot = base.indexOf('.');
  if (dot <= 0 || dot === base.length - 1) throw new Fault('Runtime.MalformedHandlerName', 'Bad handler');
  const file = path.resolve(taskRoot, name.slice(0, name.length - base.length), base.slice(0, dot));
  let found;
  try {
    found = await importModule(file);
  } catch (e) {
    if (e instanceof SyntaxError) throw new Fault('Runtime.UserCodeSyntaxError', e.toString(), e);
    if (e && (e.code === 'MODULE_NOT_FOUND' || e.code === 'ERR_MODULE_NOT_FOUND')) {
      // Name the module as the function's author did.
      const bare = path.relative(taskRoot, file);
      throw new Fault('Runtime.ImportModuleError', e.toString().replace(`'${file}'`, `'${bare}'`), e);
    }
    throw e;
  }
  for (const step of base.slice(dot + 1).split('.')) {
    let inner = found && found[step];
    if (inner === undefined && found && found.default) inner = found.default[step]; // CommonJS seen through import()
    found = inner;
  }
  if (found === undefined || found === null) throw new Fault('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  if (typeof found !== 'function') throw new Fault('Runtime.HandlerNotFound', `${name} is not a function`);
  return found;
}

let phase = 'init';
let handler;

load(process.env._HANDLER || '').then(
  (f) => {
    handler = f;
    phase = 'run';
    next();
  },
  (e) => fatal('Uncaught Exception', e, 1),
);
