// swift-tools-version: 6.2
import PackageDescription

// Two echo servers in C to compare with, a load generator, the tool that runs servers against each other; and what the
// loop's own mechanics cost and allocate. README.md says what each one measures.

let strictC: [CSetting] = [
    .define("_GNU_SOURCE"),
    .enableWarning("all"),
    .enableWarning("extra"),
    .treatAllWarnings(as: .error),
]

let package = Package(
    name: "RondoBenchmarks",
    traits: [.trait(name: "PostgreSQL", description: "The benchmark that talks to PostgreSQL.")],
    dependencies: [
        .package(
            name: "rondo", path: "..",
            traits: [.defaults, .trait(name: "PostgreSQL", condition: .when(traits: ["PostgreSQL"]))])
    ],
    targets: [
        .target(name: "BenchmarkSupport", cSettings: strictC),
        .executableTarget(name: "epoll-echo", dependencies: ["BenchmarkSupport"], cSettings: strictC),
        .executableTarget(name: "uring-echo-c", dependencies: ["BenchmarkSupport"], cSettings: strictC),
        .executableTarget(name: "echo-load", dependencies: ["BenchmarkSupport"], cSettings: strictC),
        .executableTarget(name: "echo-compare", dependencies: ["BenchmarkSupport"], cSettings: strictC),
        .executableTarget(name: "relay", dependencies: [.product(name: "Rondo", package: "rondo")]),
        .executableTarget(name: "relay-compare", dependencies: ["BenchmarkSupport"], cSettings: strictC),
        .target(name: "AllocationCounter", cSettings: strictC),
        .target(name: "FileThreads", cSettings: strictC),
        .executableTarget(name: "files", dependencies: ["FileThreads", .product(name: "Rondo", package: "rondo")]),
        .executableTarget(name: "loop-costs", dependencies: [.product(name: "Rondo", package: "rondo")]),
        .executableTarget(
            name: "postgres-select",
            dependencies: [
                .product(name: "Rondo", package: "rondo"),
                // Without the trait nobody waits for SQLite's library to be built.
                .product(name: "RondoDatabase", package: "rondo", condition: .when(traits: ["PostgreSQL"])),
            ]),
        .executableTarget(
            name: "counts", dependencies: ["AllocationCounter", .product(name: "Rondo", package: "rondo")]),
    ],
    cLanguageStandard: .c11
)
