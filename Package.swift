// swift-tools-version:6.2
import PackageDescription

/// Every Swift target: Swift 6 language mode, strict memory safety, callers keep their executor across a
/// nonisolated call, and no warning survives.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableExperimentalFeature("Lifetimes"),
]

let package = Package(
    name: "rondo",
    products: [
        .library(name: "Rondo", targets: ["Rondo", "RondoInsight"]),
        .library(name: "RondoTesting", targets: ["RondoTesting"]),
        .library(name: "RondoServices", targets: ["RondoServices"]),
        .library(name: "RondoMetrics", targets: ["RondoMetrics"]),
        .library(name: "RondoDatabase", targets: ["RondoDatabase"]),
        .library(name: "RondoTracing", targets: ["RondoTracing"]),
        .library(name: "RondoNIO", targets: ["RondoNIO"]),
        .library(name: "RondoHTTP", targets: ["RondoHTTP"]),
        .library(name: "RondoHTTPClient", targets: ["RondoHTTPClient"]),
        .executable(name: "rondo", targets: ["RondoCommand"]),
    ],
    traits: [
        .trait(name: "PostgreSQL", description: "PostgreSQL in RondoDatabase, by libpq (Debian's libpq-dev).")
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-system.git", from: "1.4.0"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-metrics.git", from: "2.7.0"),
        .package(url: "https://github.com/apple/swift-distributed-tracing.git", from: "1.7.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.5.0"),
        .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.0.0"),
        .package(url: "https://github.com/apple/swift-crypto.git", from: "4.0.0"),
        .package(url: "https://github.com/apple/swift-async-algorithms.git", from: "1.1.4"),
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-extras.git", from: "1.35.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.0"),
        .package(url: "https://github.com/apple/swift-nio-http2.git", from: "1.46.0"),
        .package(url: "https://github.com/apple/swift-http-types.git", from: "1.8.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift.git", from: "0.2.0"),
    ],
    targets: [
        .target(name: "CRondo"),
        .target(
            name: "Rondo",
            dependencies: [
                "CRondo",
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .target(name: "CRondoInsight"),
        .target(
            name: "RondoInsight",
            dependencies: [
                "CRondo", "CRondoInsight", "Rondo",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            resources: [.embedInCode("Page")],
            swiftSettings: settings),
        .target(
            name: "RondoMetrics",
            dependencies: [
                "Rondo",
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ],
            packageAccess: false, swiftSettings: settings),
        .testTarget(
            name: "RondoMetricsTests",
            dependencies: [
                "Rondo", "RondoMetrics",
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "MetricsTestKit", package: "swift-metrics"),
            ],
            swiftSettings: settings),
        .systemLibrary(name: "CPostgreSQL", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .target(
            name: "RondoDatabase",
            dependencies: [
                "Rondo",
                .target(name: "CPostgreSQL", condition: .when(traits: ["PostgreSQL"])),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            packageAccess: false, swiftSettings: settings),
        .testTarget(
            name: "RondoDatabaseTests",
            dependencies: [
                "Rondo", "RondoDatabase",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .target(
            name: "RondoTracing",
            dependencies: [
                "Rondo",
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            packageAccess: false, swiftSettings: settings),
        .testTarget(
            name: "RondoTracingTests",
            dependencies: [
                "Rondo", "RondoInsight", "RondoTracing",
                .product(name: "InMemoryTracing", package: "swift-distributed-tracing"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: settings),
        // The HTTP client: libcurl driven by the loop, zlib for bodies.
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .target(
            name: "RondoHTTPClient",
            dependencies: [
                "CCurl", "CZlib", "Rondo",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            packageAccess: false, swiftSettings: settings),
        .target(
            name: "HTTPOrigins",
            dependencies: ["Rondo", .product(name: "SystemPackage", package: "swift-system")],
            path: "Tests/HTTPOrigins", packageAccess: false, swiftSettings: settings),
        .testTarget(
            name: "RondoHTTPClientTests",
            dependencies: [
                "HTTPOrigins", "Rondo", "RondoHTTPClient",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .target(name: "CRondoTesting"),
        .target(
            name: "RondoTesting",
            dependencies: [
                "CRondo", "CRondoTesting", "Rondo",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "RondoCommand",
            dependencies: [
                "CRondo", "Rondo", "RondoDatabase", "RondoHTTP", "RondoHTTPClient", "RondoInsight", "RondoNIO",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "RondoCommandTests",
            dependencies: [
                "HTTPOrigins", "Rondo", "RondoCommand", "RondoDatabase",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .target(name: "CTestSupport", path: "Tests/CTestSupport"),
        .executableTarget(
            name: "TakeoverProbe",
            dependencies: [
                "CTestSupport", "Rondo",
                .product(name: "AsyncAlgorithms", package: "swift-async-algorithms"),
            ],
            path: "Tests/TakeoverProbe", swiftSettings: settings),
        .target(
            name: "RondoServices",
            dependencies: [
                "Rondo",
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "ServicesProbe",
            dependencies: [
                "Rondo", "RondoServices",
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            path: "Tests/ServicesProbe", swiftSettings: settings),
        .executableTarget(
            name: "InspectProbe",
            dependencies: [
                "Rondo", "RondoInsight",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            path: "Tests/InspectProbe", swiftSettings: settings),
        .executableTarget(
            name: "TraceProbe", dependencies: ["Rondo"], path: "Tests/TraceProbe", swiftSettings: settings),
        .executableTarget(
            name: "ShutdownProbe", dependencies: ["Rondo"], path: "Tests/ShutdownProbe", swiftSettings: settings),
        .testTarget(
            name: "RondoInsightTests",
            dependencies: [
                "CRondo", "InspectProbe", "Rondo", "RondoCommand", "RondoInsight", "RondoTesting", "TraceProbe",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        // NIO's protocol stack on Rondo's loop.
        .target(
            name: "RondoNIO",
            dependencies: [
                "Rondo",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            packageAccess: false, swiftSettings: settings),
        .testTarget(
            name: "RondoNIOTests",
            dependencies: [
                "Rondo", "RondoNIO",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
                .product(name: "NIOExtras", package: "swift-nio-extras"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOHTTP2", package: "swift-nio-http2"),
            ],
            swiftSettings: settings),
        .target(
            name: "RondoHTTP",
            dependencies: [
                "CZlib", "Rondo", "RondoNIO",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOHTTP2", package: "swift-nio-http2"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOHTTPTypesHTTP2", package: "swift-nio-extras"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            packageAccess: false, swiftSettings: settings),
        .testTarget(
            name: "RondoHTTPTests",
            dependencies: [
                "Rondo", "RondoHTTP",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOHPACK", package: "swift-nio-http2"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "RondoTests",
            dependencies: [
                "CRondo", "CTestSupport", "Rondo", "RondoTesting", "ServicesProbe", "ShutdownProbe", "TakeoverProbe",
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
    ])

// `./dev tsan` builds everything again with ThreadSanitizer, and tests the core: no TLS, no databases for that.
if Context.environment["RONDO_CORE_ONLY"] != nil {
    let core = [
        "CRondo", "CRondoTesting", "CTestSupport", "Rondo", "RondoServices", "RondoTesting", "RondoTests",
        "ServicesProbe", "ShutdownProbe", "TakeoverProbe",
    ]
    package.targets.removeAll { !core.contains($0.name) }
    package.products = [.library(name: "RondoTesting", targets: ["RondoTesting"])]
}
