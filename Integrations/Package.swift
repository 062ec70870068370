// swift-tools-version:6.2
import PackageDescription

// Other people's servers and clients with Rondo. A package of its own, so that whoever uses Rondo does not fetch them.

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]
/// As Rondo's own; the example does without, as a program may.
let callersKeepTheirExecutor = SwiftSetting.enableUpcomingFeature("NonisolatedNonsendingByDefault")

let package = Package(
    name: "rondo-integrations",
    products: [.library(name: "RondoHummingbird", targets: ["RondoHummingbird"])],
    dependencies: [
        .package(name: "rondo", path: ".."),
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.28.0"),
        .package(url: "https://github.com/swift-server/async-http-client.git", from: "1.30.0"),
        .package(url: "https://github.com/grpc/grpc-swift-2.git", from: "2.4.0"),
        .package(url: "https://github.com/grpc/grpc-swift-nio-transport.git", from: "2.9.0"),
    ],
    targets: [
        // A Hummingbird application behind a listener of Rondo's.
        .target(
            name: "RondoHummingbird",
            dependencies: [
                .product(name: "Rondo", package: "rondo"),
                .product(name: "RondoHTTP", package: "rondo"),
                .product(name: "RondoNIO", package: "rondo"),
                .product(name: "RondoServices", package: "rondo"),
                .product(name: "Hummingbird", package: "hummingbird"),
            ],
            swiftSettings: settings + [callersKeepTheirExecutor]),
        .executableTarget(
            name: "hummingbird-server",
            dependencies: [
                "RondoHummingbird",
                .product(name: "Rondo", package: "rondo"),
                .product(name: "RondoHTTP", package: "rondo"),
                .product(name: "RondoNIO", package: "rondo"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdHTTP2", package: "hummingbird"),
            ],
            swiftSettings: settings),
        // AsyncHTTPClient and gRPC in a Rondo program.
        .executableTarget(
            name: "client-probe",
            dependencies: [
                "RondoHummingbird",
                .product(name: "Rondo", package: "rondo"),
                .product(name: "RondoNIO", package: "rondo"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "GRPCCore", package: "grpc-swift-2"),
                .product(name: "GRPCNIOTransportHTTP2Posix", package: "grpc-swift-nio-transport"),
            ],
            swiftSettings: settings + [callersKeepTheirExecutor]),
        .testTarget(
            name: "IntegrationTests",
            dependencies: [
                "client-probe", "hummingbird-server",
                .product(name: "Rondo", package: "rondo"),
            ],
            swiftSettings: settings + [callersKeepTheirExecutor]),
    ])
