"""python_env: the checkout's virtualenv as Bazel's Python toolchain, with no downloads by Bazel.

Which virtualenv: $AISLE_VENV (./aisle writes it to .tools/bazelrc), else <checkout>/.venv, which ./aisle makes when it is missing.
"""

_BUILD = """\
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

package(default_visibility = ["//visibility:public"])

exports_files(["lock.txt", "python3"])

# A wrapper script rather than interpreter_path, so that `files` may hold the
# lock: another lock is another action key, and the tests run again.
py_runtime(
    name = "py3_runtime",
    files = ["lock.txt"],
    interpreter = "python3",
    python_version = "PY3",
    stub_shebang = "#!/usr/bin/env python3",
)

py_runtime_pair(
    name = "py_runtime_pair",
    py3_runtime = ":py3_runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":py_runtime_pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def _run(rctx, cmd):
    res = rctx.execute(cmd, timeout = 3600, quiet = False)
    if res.return_code != 0:
        fail("%s failed:\n%s%s" % (cmd, res.stdout, res.stderr))
    return res.stdout.strip()

def _python_env_impl(rctx):
    lock = rctx.path(rctx.attr.lock)
    venv = rctx.os.environ.get("AISLE_VENV") or str(lock.dirname.get_child(".venv"))
    python = venv + "/bin/python"
    if not rctx.path(python).exists:
        rctx.report_progress("installing the locked packages")
        _run(rctx, [rctx.path(rctx.attr.launcher), "setup"])
    version = _run(rctx, [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    if version != "3.11":
        fail("%s is Python %s, not 3.11" % (python, version))

    groups = rctx.os.environ.get("AISLE_INSTALLED", "")
    rctx.file("lock.txt", "# %s: %s\n%s" % (venv, groups, rctx.read(lock)))
    rctx.file("python3", "#!/bin/sh\nexec '%s' \"$@\"\n" % python, executable = True)
    rctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % rctx.name)
    rctx.file("BUILD.bazel", _BUILD)

_python_env = repository_rule(
    implementation = _python_env_impl,
    attrs = {
        "launcher": attr.label(mandatory = True, allow_single_file = True),
        "lock": attr.label(mandatory = True, allow_single_file = True),
    },
    environ = ["AISLE_VENV", "AISLE_INSTALLED"],
)

def python_env(name, **kwargs):
    _python_env(name = name, **kwargs)
    native.register_toolchains("@%s//:toolchain" % name)
