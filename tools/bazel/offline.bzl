"""Debian's Bazel 4.2.3 (package bazel-bootstrap) resolves the C++ toolchain for
every Python target and for that loads @rules_cc, which its default WORKSPACE
would download. A local stand-in that forwards to the native rules is enough.
Release builds of Bazel report a version ("6.5.0"); Debian's reports none."""

def offline_repositories():
    version = native.bazel_version
    if version and version[0].isdigit() and not version.startswith("4."):
        return
    for name in ["remote_coverage_tools", "rules_cc", "rules_java"]:
        native.local_repository(
            name = name,
            path = "tools/bazel/stubs/" + name,
        )
