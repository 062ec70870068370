// swift-tools-version:6.2
import PackageDescription

let settings: [SwiftSetting] = [.swiftLanguageMode(.v6), .strictMemorySafety(), .treatAllWarnings(as: .error)]
let rondo = Target.Dependency.product(name: "Rondo", package: "rondo")

/// Each is one file in a folder of its name.
let examples = ["chat", "copy", "dinner", "echo", "proxy", "pubsub", "tail", "timers", "wc"]

let package = Package(
    name: "Examples",
    dependencies: [.package(name: "rondo", path: "..")],
    targets: examples.map { .executableTarget(name: $0, dependencies: [rondo], swiftSettings: settings) } + [
        .testTarget(
            name: "ExampleTests", dependencies: [rondo] + examples.map { .target(name: $0) },
            swiftSettings: settings + [.enableUpcomingFeature("NonisolatedNonsendingByDefault")])
    ])
