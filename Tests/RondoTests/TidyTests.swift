// The style is a test: sizes, layers, safety notes, doc comments, links. It reads the repository's own files.

import Glibc
import Testing

@Suite struct TidyTests {
    // MARK: Sizes

    @Test func sourceFilesAreShort() {
        for file in Repository.swift(in: ["Sources"]) where file.lines.count > 500 {
            Issue.record("\(file.path) has \(file.lines.count) lines: does it hold two ideas?")
        }
    }

    @Test func functionsAreShort() {
        var count = 0
        for file in Repository.swift(in: ["Sources", "Tests", "Examples", "Benchmarks"]) {
            let functions = file.functions
            count += functions.count
            for function in functions where function.lines.count > 70 {
                Issue.record("\(file.path):\(function.lines.lowerBound + 1) has \(function.lines.count) lines")
            }
        }
        #expect(count > 400, "functions are not recognised")
    }

    /// Each is one file that says how it is run, and stands in the table.
    @Test func examplesAreShort() throws {
        let examples = Repository.swift(in: ["Examples/Sources"])
        let table = try #require(Repository.documents.first { $0.path == "Examples/README.md" }).lines
        #expect(examples.count == 9)
        for file in examples {
            let folders = file.path.split(separator: "/")
            let name = folders[2]
            #expect(examples.count { $0.path.hasPrefix("Examples/Sources/\(name)/") } == 1)
            // What stands behind the last line feed is a line here.
            if file.lines.count - 1 > 60 { Issue.record("\(file.path) has \(file.lines.count - 1) lines") }
            let head = file.lines.prefix { $0.hasPrefix("//") }
            let command = "//     swift run -c release --package-path Examples \(name)"
            #expect(head.contains { $0 == command || $0.hasPrefix(command + " ") }, "\(file.path)")
            #expect(table.contains { $0.hasPrefix("| [\(name)](Sources/\(name)/\(folders[3])) |") }, "\(file.path)")
            #expect(
                Repository.swift(in: ["Examples/Tests"]).contains { $0.lines.contains { $0.contains("\"\(name)\"") } })
        }
    }

    @Test func linesFitTheScreen() {
        for file in Repository.code {
            for (number, line) in file.lines.enumerated() where line.count > 120 {
                Issue.record("\(file.path):\(number + 1) has \(line.count) columns")
            }
        }
    }

    // MARK: Layers

    /// A folder of Sources/Rondo names types of its own and of the folders above it in the design's list, no others.
    @Test func foldersNameOnlyWhatIsAboveThem() {
        let folders = [
            "System", "Drivers", "Loop", "Time", "Sync", "Streams", "Net", "Files", "Processes", "Runtime",
        ]
        var home: [Substring: Int] = [:]
        var filesByFolder: [(folder: Int, file: SourceFile)] = []
        for file in Repository.swift(in: ["Sources/Rondo"]) {
            let name = file.path.split(separator: "/")[2]
            guard let folder = folders.firstIndex(of: String(name)) else {
                Issue.record("\(file.path) is in a folder that the design does not know")
                continue
            }
            filesByFolder.append((folder, file))
            for type in file.declaredTypes { home[type] = folder }
        }
        #expect(home.count > 30)
        for (folder, file) in filesByFolder {
            for (number, line) in file.code.enumerated() {
                for word in words(of: line) {
                    guard let other = home[word], other > folder else { continue }
                    Issue.record("\(file.path):\(number + 1) names \(word), which belongs to \(folders[other])/")
                }
            }
        }
    }

    @Test func theLibraryImportsNeitherFoundationNorDispatch() {
        for file in Repository.swift(in: ["Sources/Rondo"]) {
            for (number, line) in file.code.enumerated() {
                let words = words(of: line)
                if words.contains("import"), words.contains("Foundation") || words.contains("Dispatch") {
                    Issue.record("\(file.path):\(number + 1): \(line)")
                }
            }
        }
    }

    /// See `EventLoop.onLoop`.
    @Test func closuresThatStayOnTheLoopCaptureByThemselves() {
        for file in Repository.swift(in: ["Sources/Rondo"]) {
            for (number, line) in file.code.enumerated() where line.contains("onLoop { [") {
                Issue.record("\(file.path):\(number + 1): the capture list would make the closure leave the loop")
            }
        }
    }

    // MARK: Safety notes

    /// Each use of `unsafe` says why it is safe: in its function, in the 15 lines above, or for all of its type in a
    /// note at the type's head.
    @Test func unsafeCodeSaysWhyItIsSafe() {
        for file in Repository.swift(in: ["Sources"]) {
            let functions = file.functions
            let notedTypes = file.types.filter { type in
                file.lines[type.prefix(16)].contains { $0.contains("SAFETY") }
            }
            for (number, line) in file.code.enumerated() where words(of: line).contains("unsafe") {
                // What is declared to be unsafe has safe uses, or not; an empty array is as good as any.
                if line.contains("@unsafe") || line.hasSuffix("= unsafe []") { continue }
                if notedTypes.contains(where: { $0.contains(number) }) { continue }
                let function = functions.last { $0.lines.contains(number) && !$0.isNested }
                let start = min(function?.lines.lowerBound ?? number, max(0, number - 15))
                let end = function?.lines.upperBound ?? number + 1
                let isExplained = file.lines[start..<end].contains { $0.contains("SAFETY") }
                if !isExplained { Issue.record("\(file.path):\(number + 1) lacks a SAFETY note: \(line)") }
            }
        }
    }

    @Test func uncheckedSendabilitySaysWhyItHolds() {
        for file in Repository.swift(in: ["Sources", "Tests", "Examples", "Benchmarks"]) {
            for (number, line) in file.code.enumerated() where line.contains("@unchecked Sendable") {
                let nearby = file.lines[max(0, number - 6)..<min(file.lines.count, number + 7)]
                if !nearby.contains(where: { $0.contains("SAFETY:") }) {
                    Issue.record("\(file.path):\(number + 1) lacks a SAFETY note")
                }
            }
        }
    }

    // MARK: Words

    @Test func nothingIsLeftForLater() {
        for file in Repository.code where !file.path.hasSuffix("TidyTests.swift") {
            for (number, line) in file.lines.enumerated() {
                for word in ["TODO", "FIXME", "XXX"] where words(of: line).contains(Substring(word)) {
                    Issue.record("\(file.path):\(number + 1): \(line)")
                }
            }
        }
    }

    /// Tests wait for events, never for the time that something usually takes.
    @Test func testsDoNotBlockToWait() {
        for file in Repository.swift(in: ["Tests", "Examples/Tests"]) {
            for (number, line) in file.code.enumerated() {
                let words = words(of: line)
                for word: Substring in ["usleep", "nanosleep"] where words.contains(word) {
                    Issue.record("\(file.path):\(number + 1): \(line)")
                }
                for text in ["Thread.sleep", "(.timeLimit"] where line.contains(text) {
                    Issue.record("\(file.path):\(number + 1): \(line)")
                }
            }
        }
    }

    @Test func publicInterfaceIsDocumented() {
        for file in Repository.swift(in: ["Sources/Rondo", "Sources/RondoTesting"]) {
            for (number, line) in file.code.enumerated() {
                let words = words(of: line)
                guard words.contains("public"), !words.contains("import"), words.contains(where: declares.contains)
                else { continue }
                if words.contains("extension") || isExempt(words) { continue }
                if !file.hasDocComment(above: number) {
                    Issue.record("\(file.path):\(number + 1) is public and has no doc comment: \(line)")
                }
            }
        }
    }

    private let declares: Set<Substring> = [
        "func", "var", "let", "init", "struct", "class", "enum", "actor", "protocol", "typealias", "subscript", "case",
    ]

    /// What a protocol of the standard library has documented.
    private func isExempt(_ words: [Substring]) -> Bool {
        let names: Set<Substring> = ["description", "debugDescription", "hash", "encode"]
        if !names.isDisjoint(with: words) { return true }
        return words.contains("init") || words.contains("operator")
            || words.starts(with: ["public", "static", "func"])
                && words.contains("left")
    }

    // MARK: Documents

    @Test func linksInDocumentsLead() {
        for file in Repository.documents {
            let folder = file.path.split(separator: "/").dropLast().joined(separator: "/")
            for (number, line) in file.lines.enumerated() {
                for target in links(of: line) where !target.contains(":") && !target.hasPrefix("#") {
                    let path = target.split(separator: "#")[0]
                    if unsafe access("\(Repository.root)/\(folder)/\(path)", F_OK) != 0 {
                        Issue.record("\(file.path):\(number + 1) links to \(target), which is not there")
                    }
                }
            }
        }
    }

    /// The targets in `[text](target)`.
    private func links(of line: String) -> [Substring] {
        line.split(separator: "](").dropFirst().compactMap { $0.split(separator: ")", maxSplits: 1).first }
    }
}
