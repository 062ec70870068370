// The repository's files, and as much understanding of Swift's text as the tidy test needs.

import Glibc

/// The files of this package.
enum Repository {
    /// The folder that holds Package.swift.
    static let root = "/" + #filePath.split(separator: "/").dropLast(4).joined(separator: "/")

    /// Swift files below these folders.
    static func swift(in folders: [String]) -> [SourceFile] {
        files.filter { file in
            file.path.hasSuffix(".swift") && folders.contains { file.path.hasPrefix("\($0)/") }
        }
    }

    /// Swift and C.
    static let code = files.filter { file in [".swift", ".c", ".h"].contains { file.path.hasSuffix($0) } }

    /// Markdown.
    static let documents = files.filter { $0.path.hasSuffix(".md") }

    private static let files: [SourceFile] = {
        var paths: [String] = []
        collect("", into: &paths)
        return paths.sorted().map { SourceFile($0) }
    }()

    private static func collect(_ folder: String, into paths: inout [String]) {
        for name in names(in: "\(root)/\(folder)") where !name.hasPrefix(".") {
            let path = folder.isEmpty ? name : "\(folder)/\(name)"
            if ["swift", "c", "h", "md"].contains(path.split(separator: ".").last) {
                paths.append(path)
            } else {
                collect(path, into: &paths)
            }
        }
    }
}

/// One file.
struct SourceFile: Sendable {
    /// Relative to the package.
    let path: String
    let lines: [String]
    /// The lines without comments and without what stands in string literals.
    let code: [String]

    init(_ path: String) {
        self.path = path
        let text = String(decoding: contents(ofFile: "\(Repository.root)/\(path)") ?? [], as: UTF8.self)
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        var isInText = false
        code = lines.map { Self.strip($0, &isInText) }
    }

    /// A function, an initialiser or a computed property.
    struct Function {
        var lines: Range<Int>
        /// Whether it stands in another one.
        var isNested: Bool
    }

    /// Everything in this file that has a body of code.
    var functions: [Function] {
        var all: [Function] = []
        var depth = 0
        var open: [(start: Int, depth: Int)] = []
        var waiting: Int?
        for (number, line) in code.enumerated() {
            let words = words(of: line)
            if open.isEmpty || words.contains("func"), waiting == nil, Self.begins(words, line) { waiting = number }
            for character in line {
                if character == "{" {
                    depth += 1
                    if let start = waiting {
                        open.append((start, depth))
                        waiting = nil
                    }
                } else if character == "}" {
                    if let last = open.last, last.depth == depth {
                        open.removeLast()
                        all.append(Function(lines: last.start..<number + 1, isNested: !open.isEmpty))
                    }
                    depth -= 1
                }
            }
            // A stored property, or a requirement without a body.
            if waiting == number, !words.contains("func"), !words.contains("init") { waiting = nil }
            if let start = waiting, number > start, line.isEmpty { waiting = nil }
        }
        return all
    }

    /// Everything that declares members: types and extensions.
    var types: [Range<Int>] {
        let kinds: Set<Substring> = ["class", "struct", "enum", "actor", "protocol", "extension"]
        var all: [Range<Int>] = []
        var depth = 0
        var open: [(start: Int, depth: Int)] = []
        var waiting: Int?
        for (number, line) in code.enumerated() {
            if !kinds.isDisjoint(with: words(of: line)) { waiting = number }
            for character in line {
                if character == "{" {
                    depth += 1
                    if let start = waiting { open.append((start, depth)) }
                    waiting = nil
                } else if character == "}" {
                    if let last = open.last, last.depth == depth { all.append(open.removeLast().start..<number + 1) }
                    depth -= 1
                }
            }
        }
        return all
    }

    private static func begins(_ words: [Substring], _ line: String) -> Bool {
        if words.contains("func") || words.contains("deinit") || words.contains("subscript") { return true }
        let isInitialiser = words.contains("init") && !line.contains(".init")
        if isInitialiser, !words.contains("self") || line.hasSuffix("{") { return true }
        return words.contains("var") && line.hasSuffix("{")
    }

    /// The names of the types that this file declares.
    var declaredTypes: [Substring] {
        code.flatMap { line in
            let words = words(of: line)
            return words.indices.dropLast().compactMap { index in
                let isDeclaration = ["class", "struct", "enum", "actor", "protocol", "typealias"].contains(words[index])
                let name = words[index + 1]
                return isDeclaration && line.first != " " && name.first?.isUppercase == true ? name : nil
            }
        }
    }

    /// Whether the declaration in this line has a comment that documents it.
    func hasDocComment(above number: Int) -> Bool {
        var above = number - 1
        while above >= 0 {
            let line = lines[above].drop { $0 == " " }
            if line.hasPrefix("///") { return true }
            // Attributes and notes for the reader of the code may stand between.
            guard line.hasPrefix("@") || line.hasPrefix("//") else { return false }
            above -= 1
        }
        return false
    }

    private static func strip(_ line: String, _ isInText: inout Bool) -> String {
        if line.contains(#"""""#) {
            isInText.toggle()
            return ""
        }
        if isInText { return "" }
        var code = ""
        var isInString = false
        var previous: Character = " "
        for character in line {
            if character == "\"", previous != "\\" {
                isInString.toggle()
            } else if !isInString {
                if character == "/", previous == "/" {
                    code.removeLast()
                    break
                }
                code.append(character)
            }
            previous = character
        }
        while code.last == " " { code.removeLast() }
        return code
    }
}

/// The identifiers of a line.
func words(of line: String) -> [Substring] {
    line.split { !($0.isLetter || $0.isNumber || $0 == "_") }
}
