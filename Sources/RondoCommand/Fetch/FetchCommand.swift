import ArgumentParser
import Rondo
import RondoHTTPClient
import SystemPackage

/// `rondo fetch`: what may be set, and whether it makes sense.
struct FetchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fetch",
        abstract: "Download many files at once, safely.",
        discussion: """
            A file appears under its name when all of it is there and on the disk; until then it is NAME.part. \
            What was interrupted goes on where it stopped, if the server still has the same file; connections \
            that break, and servers that are busy, are tried again after a while. On a terminal it shows what is \
            running; else a line for each file. Files that are there already are left alone, but for those whose \
            checksum is another one.

            The exit status is the number of files that are not there now, at most 125; 126 if it could not \
            begin, and 130 if it was interrupted.
            """)

    @Argument(help: "What to download: http:// and https:// URLs.")
    var urls: [String] = []

    @Option(
        help: ArgumentHelp(
            "A file of URLs, one a line; - for standard input.",
            discussion:
                "Behind a URL may stand the SHA-256 of its file. Empty lines and lines that begin with # count not.",
            valueName: "file"))
    var input: String?

    @Option(
        name: [.customShort("o"), .long],
        help: ArgumentHelp("Where the files go; is made if it is not there.", valueName: "folder"))
    var output = "."

    @Option(
        name: [.customShort("j"), .long], parsing: .unconditional,
        help: ArgumentHelp("How many at once.", valueName: "count"))
    var jobs = 8

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("How often a file is tried again without any progress.", valueName: "count"))
    var retries = 8

    @Option(help: ArgumentHelp("The SHA-256 that the one file must have.", valueName: "hex"))
    var sha256: String?

    @Option(help: ArgumentHelp("Give up files that are larger.", valueName: "bytes"))
    var largestFile: Int64?

    @Option(help: ArgumentHelp("Certificates to trust instead of the system's, in PEM.", valueName: "file"))
    var cacert: String?

    @Flag(help: "Download files that are there already, and replace them.")
    var force = false

    @Flag(help: "Print a JSON object for each file, and one for all of them.")
    var json = false

    func validate() throws {
        if urls.isEmpty, input == nil { throw ValidationError("Name a URL, or a file of them with --input.") }
        guard (1...1000).contains(jobs) else { throw ValidationError("-j \(jobs): use 1 to 1000.") }
        guard (0...1000).contains(retries) else { throw ValidationError("--retries \(retries): use 0 to 1000.") }
        if let sha256 {
            if urls.count != 1 || input != nil {
                throw ValidationError("--sha256 is for one URL: write the checksums of more behind theirs in --input.")
            }
            if FetchList.checksum(sha256) == nil { throw ValidationError("--sha256 takes 64 hexadecimal digits.") }
        }
    }

    func run() throws {
        let options = FetchOptions(
            folder: FilePath(output), jobs: jobs, retries: retries, replaces: force, largestFile: largestFile,
            isJSON: json)
        let (urls, input, sha256, cacert) = (urls, input, sha256, cacert)
        Command.runOnLoop {
            do {
                var requests = urls.map { FetchRequest(url: $0, sha256: sha256.flatMap { FetchList.checksum($0) }) }
                if let input { requests += try await FetchList.read(input) }
                var configuration = HTTPClientConfiguration()
                // The bytes as they are stored, and as many at once as were asked for.
                configuration.decompresses = false
                configuration.userAgent = "rondo-fetch"
                configuration.pool.requests = options.jobs
                configuration.pool.requestsPerHost = options.jobs
                configuration.pool.idleConnections = options.jobs
                configuration.limits.bodyBytes = options.largestFile.map { Int($0) } ?? .max
                configuration.tls.trustedCertificates = cacert.map { FilePath($0) }
                let client = HTTPClient(configuration: configuration)
                let run = try await FetchRun(requests, options, client)
                let status = await run.run()
                await client.close()
                return status
            } catch {
                Terminal.errors.say("error: \(error)")
                return 126
            }
        }
    }
}

/// What may be set.
struct FetchOptions: Sendable {
    var folder: FilePath
    var jobs: Int
    var retries: Int
    var replaces: Bool
    var largestFile: Int64?
    var isJSON: Bool
}

/// What is wanted.
struct FetchRequest: Sendable, Equatable {
    var url: String
    /// What the file must have, 32 bytes; nil for anything.
    var sha256: [UInt8]?
}
