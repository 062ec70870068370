// swift-tools-version:6.2
import PackageDescription

// "Hello, world!" by Rondo and by Hummingbird; those of others stand beside. Benchmarks/http builds and runs them all.

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6), .strictMemorySafety(), .treatAllWarnings(as: .error),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]
let rondo = Target.Dependency.product(name: "Rondo", package: "rondo")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")

let package = Package(
    name: "http-servers",
    dependencies: [
        .package(name: "rondo", path: "../.."),
        .package(name: "rondo-integrations", path: "../../Integrations"),
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.28.0"),
    ],
    targets: [
        .executableTarget(
            name: "rondo-http", dependencies: [rondo, .product(name: "RondoHTTP", package: "rondo")],
            swiftSettings: settings),
        .executableTarget(
            name: "rondo-nio",
            dependencies: [
                rondo, .product(name: "RondoNIO", package: "rondo"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "hummingbird-on-rondo",
            dependencies: [
                rondo, .product(name: "RondoHummingbird", package: "rondo-integrations"),
                .product(name: "RondoNIO", package: "rondo"), hummingbird,
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "hummingbird-on-rondo-http",
            dependencies: [
                rondo, .product(name: "RondoHTTP", package: "rondo"), .product(name: "RondoNIO", package: "rondo"),
                hummingbird, .product(name: "RondoHummingbird", package: "rondo-integrations"),
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "hummingbird-on-nio", dependencies: [hummingbird, .product(name: "NIOPosix", package: "swift-nio")],
            swiftSettings: settings),
    ])
