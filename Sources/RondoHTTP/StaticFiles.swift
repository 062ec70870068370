// The files of a folder, as a handler. What is asked for is found below the folder or not at all.

import Glibc
import HTTPTypes
import Rondo
public import SystemPackage

/// Answers requests with the files below a folder: whole or a range, with validators, and folders as lists.
///
/// ```
/// let files = try await StaticFiles(root: "/srv/www")
/// try await server.serve { request, response in try await files.answer(request, with: response) }
/// ```
///
/// A request can't leave the folder: neither by `..`, nor by an encoded slash, nor by a symbolic link that points out
/// of it. Names that begin with a dot are hidden. Who may change the folder while it is served is trusted.
public struct StaticFiles: Sendable {
    /// The folder, without symbolic links in its path.
    public let root: FilePath
    /// Whether a folder without an `index.html` is answered with the list of what is in it; else with 404.
    public var listsFolders = true

    /// - Throws: `IOError` if there is no such folder.
    public init(root: FilePath) async throws {
        guard let real = try await Self.realPath(of: root) else {
            throw IOError("serve", root.string, .system(.noSuchFileOrDirectory))
        }
        self.root = real
        if try await Files.status(of: real).kind != .directory {
            throw IOError("serve", root.string, .system(.notDirectory))
        }
    }

    /// Answers a request, whatever it is.
    public func answer(_ request: ServerRequest, with response: ServerResponse) async throws {
        guard request.method == .get || request.method == .head else {
            response.headers[.allow] = "GET, HEAD"
            return try await response.send(.methodNotAllowed)
        }
        guard let names = Self.names(in: request.path) else { return try await response.send(.badRequest) }
        if names.contains(where: { $0.hasPrefix(".") }) { return try await response.send(.notFound) }
        let path = names.reduce(root) { $0.appending($1) }
        guard let real = try await Self.realPath(of: path), real.starts(with: root),
            let status = try? await Files.status(of: real)
        else { return try await response.send(.notFound) }
        switch status.kind {
        case .regular: try await send(real, status, request, response)
        case .directory: try await sendFolder(real, request, response)
        default: try await response.send(.notFound)
        }
    }

    // MARK: Paths

    /// The names between the slashes of a path, decoded; nil if one of them is none.
    static func names(in path: Substring) -> [String]? {
        guard path.hasPrefix("/") else { return nil }
        var names: [String] = []
        for part in path.split(separator: "/") {
            guard let name = decoded(part), !name.isEmpty, !name.utf8.contains(where: { $0 == 0x2F || $0 == 0 }) else {
                return nil
            }
            names.append(name)
        }
        return names
    }

    private static func decoded(_ part: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = part.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            let digits = rest.prefix(2)
            guard digits.count == 2, let text = Substring(digits) as Substring?, !text.hasPrefix("+"),
                !text.hasPrefix("-"), let value = UInt8(text, radix: 16)
            else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    /// The path without symbolic links; nil if there is nothing.
    private static func realPath(of path: FilePath) async throws -> FilePath? {
        let text = path.string
        return try await offload {
            // SAFETY: the system's answer is freed here, and the text is only lent for the call.
            guard let real = unsafe realpath(text, nil) else { return nil as FilePath? }
            defer { unsafe free(real) }
            return unsafe FilePath(String(cString: real))
        }
    }

    // MARK: Files

    private func send(
        _ path: FilePath, _ status: FileStatus, _ request: ServerRequest, _ response: ServerResponse
    ) async throws {
        let tag = Self.tag(status)
        let date = String(decoding: HTTPDate.text(of: Int(status.modified.components.seconds)), as: UTF8.self)
        response.headers[.eTag] = tag
        response.headers[.lastModified] = date
        response.headers[.acceptRanges] = "bytes"
        if Self.isUnchanged(request.headers, tag, date) { return try await response.send(.notModified) }
        var range = 0..<status.size
        var wanted = request.headers[.range]
        if let condition = request.headers[.ifRange], condition != tag, condition != date { wanted = nil }
        if let wanted, let found = Self.range(wanted, of: status.size) {
            guard let found = found.value else {
                response.headers[.contentRange] = "bytes */\(status.size)"
                return try await response.send(.rangeNotSatisfiable)
            }
            range = found
            response.status = .partialContent
            response.headers[.contentRange] = "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(status.size)"
        }
        response.headers[.contentType] = MediaType.of(path.extension)
        response.headers[.contentLength] = String(range.count)
        if request.method == .head { return try await response.finish() }
        let file = try await File.open(path)
        do {
            try await send(range, of: file, response)
            await file.close()
        } catch {
            await file.close()
            throw error
        }
        try await response.finish()
    }

    private func send(_ range: Range<Int64>, of file: File, _ response: ServerResponse) async throws {
        var position = range.lowerBound
        while position < range.upperBound {
            let bytes = try await file.read(Int(min(range.upperBound - position, 256 * 1024)), at: position)
            // It has become shorter: the connection breaks, as the length was announced.
            if bytes.isEmpty { throw IOError("read", file.path.string, .unexpectedEnd) }
            try await response.write(bytes)
            position += Int64(bytes.count)
        }
    }

    /// Changes whenever the file's size or time does.
    static func tag(_ status: FileStatus) -> String {
        let (seconds, attoseconds) = status.modified.components
        let nanoseconds = seconds &* 1_000_000_000 &+ attoseconds / 1_000_000_000
        return "\"" + String(nanoseconds, radix: 16) + "-" + String(status.size, radix: 16) + "\""
    }

    private static func isUnchanged(_ fields: HTTPFields, _ tag: String, _ date: String) -> Bool {
        if let tags = fields[.ifNoneMatch] {
            return tags == "*"
                || tags.split(separator: ",").contains { candidate in
                    let candidate = candidate.drop { $0 == " " }.prefix { $0 != " " }
                    return candidate == tag || candidate == "W/" + tag
                }
        }
        return fields[.ifModifiedSince] == date
    }

    /// What `bytes=…` asks for.
    ///
    /// - Returns: nil if it is to be ignored (several ranges, or none at all); a nil value if the file has no such
    ///   bytes.
    static func range(_ text: String, of size: Int64) -> (value: Range<Int64>?, Void)? {
        guard text.hasPrefix("bytes=") else { return nil }
        let parts = text.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.utf8.allSatisfy(\.isDigit) && $0.utf8.count < 19 }) else {
            return nil
        }
        switch (Int64(parts[0]), Int64(parts[1])) {
        case (nil, nil): return nil
        case (nil, let count?): return (count == 0 || size == 0 ? nil : max(0, size - count)..<size, ())
        case (let first?, nil): return (first < size ? first..<size : nil, ())
        case (let first?, let last?):
            if last < first { return nil }
            return (first < size ? first..<min(last + 1, size) : nil, ())
        }
    }

    // MARK: Folders

    private func sendFolder(_ path: FilePath, _ request: ServerRequest, _ response: ServerResponse) async throws {
        guard request.path.hasSuffix("/") else {
            // The names of the list are relative to it. A second slash would name another host.
            let target = "/" + request.path.drop { $0 == "/" } + "/"
            response.headers[.location] = target + (request.query.map { "?\($0)" } ?? "")
            return try await response.send(.movedPermanently)
        }
        let index = path.appending("index.html")
        if let real = try await Self.realPath(of: index), real.starts(with: root),
            let status = try? await Files.status(of: real), status.kind == .regular
        {
            return try await send(real, status, request, response)
        }
        guard listsFolders else { return try await response.send(.notFound) }
        let entries = try await Directory.entries(of: path).filter { !$0.name.hasPrefix(".") }.sorted {
            $0.name < $1.name
        }
        let title = Self.escaped(String(request.path))
        var page = "<!doctype html><meta charset=utf-8><title>\(title)</title><h1>\(title)</h1><ul>\n"
        if path != root { page += "<li><a href=\"../\">..</a>\n" }
        for entry in entries {
            let name = entry.kind == .directory ? entry.name + "/" : entry.name
            page += "<li><a href=\"./\(Self.encoded(name))\">\(Self.escaped(name))</a>\n"
        }
        response.headers[.contentType] = "text/html; charset=utf-8"
        try await response.send(page + "</ul>\n")
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "&": result += "&amp;"
            case "\"": result += "&quot;"
            default: result.append(character)
            }
        }
        return result
    }

    /// A name as a link: everything that could mean something else is a number.
    private static func encoded(_ name: String) -> String {
        name.utf8.map { byte in
            let isPlain = byte.isDigit || byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A || "-._~/".utf8.contains(byte)
            if isPlain { return String(UnicodeScalar(byte)) }
            return (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
        }.joined()
    }
}

/// What a file's name says about its content.
enum MediaType {
    static func of(_ fileExtension: String?) -> String {
        switch fileExtension?.lowercased() {
        case "html", "htm": "text/html; charset=utf-8"
        case "css": "text/css; charset=utf-8"
        case "js", "mjs": "text/javascript; charset=utf-8"
        case "txt", "md", "log": "text/plain; charset=utf-8"
        case "csv": "text/csv; charset=utf-8"
        case "json", "map": "application/json"
        case "xml": "application/xml"
        case "svg": "image/svg+xml"
        case "png": "image/png"
        case "jpg", "jpeg": "image/jpeg"
        case "gif": "image/gif"
        case "webp": "image/webp"
        case "ico": "image/x-icon"
        case "pdf": "application/pdf"
        case "wasm": "application/wasm"
        case "woff2": "font/woff2"
        case "mp4": "video/mp4"
        case "gz": "application/gzip"
        case "zip": "application/zip"
        default: "application/octet-stream"
        }
    }
}
