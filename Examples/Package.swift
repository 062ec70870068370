// swift-tools-version:6.2
import PackageDescription

let package = Package(
    name: "Examples",
    dependencies: [.package(name: "rondo", path: "..")],
    targets: [
        .executableTarget(name: "echo", dependencies: [.product(name: "Rondo", package: "rondo")]),
        .executableTarget(name: "proxy", dependencies: [.product(name: "Rondo", package: "rondo")]),
        .executableTarget(name: "chat", dependencies: [.product(name: "Rondo", package: "rondo")]),
        .executableTarget(name: "dinner", dependencies: [.product(name: "Rondo", package: "rondo")]),
        .executableTarget(name: "copy", dependencies: [.product(name: "Rondo", package: "rondo")]),
    ])
