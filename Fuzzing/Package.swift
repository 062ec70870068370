// swift-tools-version: 6.2
import PackageDescription

// Fuzzers of everything in RondoHTTP that parses what a stranger sends, guided by coverage (libFuzzer). The parsers are
// links to the library's own files: only they are instrumented, and NIO and BoringSSL need not be built. `Fuzzing/run`
// builds and runs it.

let package = Package(
    name: "RondoFuzzing",
    dependencies: [
        .package(name: "rondo", path: ".."),
        .package(url: "https://github.com/apple/swift-http-types.git", from: "1.8.0"),
    ],
    targets: [
        .target(name: "CFuzzer"),
        .executableTarget(
            name: "fuzz",
            dependencies: [
                "CFuzzer",
                .product(name: "Rondo", package: "rondo"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
            ],
            swiftSettings: [
                .swiftLanguageMode(.v6), .strictMemorySafety(), .treatAllWarnings(as: .error),
                .enableUpcomingFeature("NonisolatedNonsendingByDefault"), .enableUpcomingFeature("ExistentialAny"),
                .enableUpcomingFeature("InternalImportsByDefault"), .enableExperimentalFeature("Lifetimes"),
                .unsafeFlags(["-sanitize=fuzzer"]),
            ],
            // gold can't read the debug information of the fuzzer's library.
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]),
    ])
