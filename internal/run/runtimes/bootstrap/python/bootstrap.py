"""Runs a Python handler against the Lambda Runtime API (2018-06-01).

Loads the function named by _HANDLER, then takes one event after another. What
the function raises becomes the error document of the managed runtimes, so that
clients see what they would see from Lambda. Needs Python 3.6, is started
without the site module, and imports as little as it can: every import is time
in a cold start.
"""

import _socket  # socket's C half: its Python half would pull in selectors and more
import builtins
import io
import json
import os
import sys
import time
from _sitebuiltins import Quitter

VERSION = "/2018-06-01/runtime/"
TASK_ROOT = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
request_id = ""  # of the invocation under way, for the log


class Fault(Exception):
    """A fault in how the function is packaged, under Lambda's name for it."""

    def __init__(self, kind, message, trace=()):
        super().__init__(message)
        self.kind = kind
        self.trace = list(trace)


class Api:
    """One connection to the Runtime API."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.get_next = ("GET %sinvocation/next HTTP/1.1\r\nHost: %s\r\n\r\n" % (VERSION, address)).encode()
        self.host = address

    def _more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            sys.exit(1)  # the platform is gone, and so is our purpose
        return data

    def read(self):
        """Read one reply: status, headers by lower-case name, body."""
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end >= 0:
                break
            self.buffer += self._more()
        lines = self.buffer[:end].split(b"\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        body = self.buffer[end + 4:]
        length = int(headers.get(b"content-length", b"0"))
        if len(body) < length:
            parts, have = [body], len(body)
            while have < length:
                parts.append(self._more())
                have += len(parts[-1])
            body = b"".join(parts)
        self.buffer = body[length:]
        return int(lines[0].split(b" ", 2)[1]), headers, body[:length]

    def post(self, path, body, kind="", then=b""):
        """Post body; then is a request to send in the same breath."""
        head = "POST %s%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (
            VERSION, path, self.host, len(body))
        if kind:
            head += "Lambda-Runtime-Function-Error-Type: %s\r\n" % kind.replace("\r", " ").replace("\n", " ")
        self.socket.sendall(head.encode("utf-8", "replace") + b"\r\n" + body + then)
        return self.read()[0]


class Named:
    """Attributes, None where the platform sent nothing."""

    _fields = ()

    def __init__(self, values):
        for attribute, key in self._fields:
            setattr(self, attribute, values.get(key))

    def __repr__(self):
        return "%s([%s])" % (type(self).__name__, ",".join("%s=%s" % (a, getattr(self, a)) for a, _ in self._fields))


class CognitoIdentity(Named):
    _fields = (("cognito_identity_id", "cognitoIdentityId"), ("cognito_identity_pool_id", "cognitoIdentityPoolId"))


class Client(Named):
    _fields = tuple((k, k) for k in (
        "installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"))


class ClientContext(Named):
    _fields = (("custom", "custom"), ("env", "env"), ("client", "client"))

    def __init__(self, values):
        super().__init__(values)
        if isinstance(self.client, dict):
            self.client = Client(self.client)


class LambdaContext:
    """The second argument of a handler."""

    def __init__(self, headers):
        env = os.environ.get
        self.aws_request_id = headers.get(b"lambda-runtime-aws-request-id", b"").decode()
        self.log_group_name = env("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = env("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = env("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = env("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = headers.get(b"lambda-runtime-invoked-function-arn", b"").decode()
        self.tenant_id = None
        self.client_context = None
        context = headers.get(b"lambda-runtime-client-context")
        if context:
            values = json.loads(context.decode("utf-8"))
            if isinstance(values, dict):
                self.client_context = ClientContext(values)
        identity = headers.get(b"lambda-runtime-cognito-identity")
        values = json.loads(identity.decode("utf-8")) if identity else {}
        self.identity = CognitoIdentity(values if isinstance(values, dict) else {})
        self._epoch_deadline_time_in_ms = int(headers.get(b"lambda-runtime-deadline-ms", b"0"))

    def get_remaining_time_in_millis(self):
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def log(self, message):
        sys.stdout.write(message if isinstance(message, str) else str(message))

    def __repr__(self):
        return "LambdaContext([%s])" % ",".join("%s=%s" % (k, v) for k, v in vars(self).items() if not k.startswith("_"))


class ManagedFinder:
    """Finds the packages that come with Lambda's Python, where this machine has them.

    Nothing else that happens to be installed here is importable: it would not
    be there in Lambda either. Neither do .pth files run.
    """

    NAMES = frozenset(("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"))

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if path is not None or name not in cls.NAMES:
            return None
        version = "python%d.%d" % sys.version_info[:2]
        places = [os.path.join(sys.prefix, "lib", version, "site-packages"),
                  os.path.join("/usr/local/lib", version, "dist-packages"), "/usr/lib/python3/dist-packages"]
        for finder in sys.meta_path:
            if getattr(finder, "__name__", "") == "PathFinder":
                return finder.find_spec(name, places)
        return None


class LoggingFinder:
    """Gives the root logger Lambda's handler when, and only when, the function imports logging."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(cls)
        import importlib.util
        spec = importlib.util.find_spec("logging")
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            handle_logs(module)

        spec.loader.exec_module = exec_module
        return spec


def handle_logs(logging):
    class LambdaHandler(logging.Handler):
        def emit(self, record):
            try:
                sys.stdout.write(self.format(record))
                sys.stdout.flush()
            except Exception:
                self.handleError(record)

    class AddRequestId(logging.Filter):
        def filter(self, record):
            record.aws_request_id = request_id
            return True

    formatter = logging.Formatter(
        "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = LambdaHandler()
    handler.setFormatter(formatter)
    handler.addFilter(AddRequestId())
    logging.root.addHandler(handler)


def open_outputs():
    """Make standard output and error UTF-8 and flushed at every line, whatever the locale."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        raw = io.BufferedWriter(io.FileIO(fd, "wb", closefd=False))
        setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True))


def flush_outputs():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the function may have put anything there
            pass


def load(handler):
    """Find the function that _HANDLER names."""
    module_name, dot, function_name = handler.rpartition(".")
    if not dot:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % handler)
    name = module_name.replace("/", ".")
    if name.split(".")[0] in sys.builtin_module_names:
        raise Fault("Runtime.BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module_name)
    try:
        __import__(name)
        module = sys.modules[name]
    except ImportError as e:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, e))
    except SyntaxError as e:
        raise Fault("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module_name, e),
                    ['  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)])
    try:
        return getattr(module, function_name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (function_name, module_name))


def error_document(error):
    """The error's kind and its document, also written to the log."""
    if isinstance(error, Fault):
        kind, trace = error.kind, error.trace
    else:
        kind, trace = type(error).__name__, stack(error)
    document = {"errorMessage": str(error), "errorType": kind, "requestId": request_id, "stackTrace": trace}
    lines = ["[ERROR] %s: %s" % (kind, error), "Traceback (most recent call last):"]
    for frame in trace:
        lines.extend(frame.splitlines())
    try:
        sys.stdout.write("\n".join(lines) + "\n")
    except Exception:
        pass
    return kind, json.dumps(document).encode()


def stack(error):
    """The frames of error that are the function's own."""
    import traceback
    frames = [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(error.__traceback__)]
    while frames and (frames[0][0] == main.__code__.co_filename or frames[0][0].startswith("<frozen importlib")):
        del frames[0]
    return ['  File "%s", line %s, in %s\n%s' % (f, n, where, "    %s\n" % line if line else "") for f, n, where, line in frames]


def plain(value):
    """json's fallback: Decimal becomes a number, as the managed runtimes do."""
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 10 ** 15 else float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def ascii_only():
    """Python 3.12 and later runtimes answer in UTF-8, earlier ones in escapes."""
    runtime = os.environ.get("AWS_EXECUTION_ENV", "")
    minor = runtime.rpartition("python3.")[2]
    return not (minor.isdigit() and int(minor) >= 12)


def invoke(function, encode, headers, payload):
    """Run the handler on one event: where to post, what, and the error's kind."""
    try:
        try:
            event = json.loads(payload.decode("utf-8"))
        except Exception as e:
            raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % e)
        context = LambdaContext(headers)
        result = function(event, context)
        try:
            return "response", encode(result).encode("utf-8", "surrogatepass"), ""
        except Exception as e:
            raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % e)
    except Exception as e:
        kind, document = error_document(e)
        return "error", document, kind


def main():
    global request_id
    open_outputs()
    api = Api(os.environ["AWS_LAMBDA_RUNTIME_API"])
    sys.path.insert(0, TASK_ROOT)
    sys.meta_path.insert(0, LoggingFinder)
    sys.meta_path.append(ManagedFinder)
    builtins.exit, builtins.quit = Quitter("exit", "Ctrl-D"), Quitter("quit", "Ctrl-D")
    try:
        function = load(os.environ.get("_HANDLER", ""))
    except Exception as e:
        kind, document = error_document(e)
        flush_outputs()
        api.post("init/error", document, kind)
        os._exit(1)
    flush_outputs()
    encode = json.JSONEncoder(ensure_ascii=ascii_only(), default=plain).encode

    api.socket.sendall(api.get_next)
    while True:
        status, headers, payload = api.read()
        if status != 200:
            sys.exit(1)
        request_id = headers.get(b"lambda-runtime-aws-request-id", b"").decode()
        trace = headers.get(b"lambda-runtime-trace-id")
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace.decode()
        verb, body, kind = invoke(function, encode, headers, payload)
        flush_outputs()
        # The answer and the next question travel together.
        api.post("invocation/%s/%s" % (request_id, verb), body, kind, api.get_next)


if __name__ == "__main__":
    main()
