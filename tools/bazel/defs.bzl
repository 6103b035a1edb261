"""The Python rules that every BUILD file loads."""

py_library = native.py_library

def py_test(name, srcs, deps = [], data = [], size = "small", **kwargs):
    """pytest over srcs."""
    main = Label("//tools/bazel:pytest_main.py")
    native.py_test(
        name = name,
        srcs = [main] + srcs,
        main = main,
        args = ["$(rootpath %s)" % s for s in srcs],
        data = data + ["//:pytest.ini"],
        deps = deps,
        size = size,
        python_version = "PY3",
        **kwargs
    )

def py_proto(name, src):
    """aisle/v1/x.proto -> the modules aisle.v1.x_pb2 and aisle.v1.x_pb2_grpc, by the grpc_tools of the lock."""
    stem = src[:-len(".proto")]
    outs = [stem + "_pb2.py", stem + "_pb2_grpc.py"]
    native.genrule(
        name = name + "_gen",
        srcs = native.glob(["**/*.proto"]),
        outs = outs,
        # lock.txt is in the key: another grpcio-tools generates again.
        tools = ["//tools:genproto.py", "@py_env//:python3", "@py_env//:lock.txt"],
        cmd = "$(execpath @py_env//:python3) $(execpath //tools:genproto.py) " +
              "--include proto --out $(RULEDIR) proto/%s" % src,
    )
    py_library(name = name, srcs = outs, imports = ["."])
