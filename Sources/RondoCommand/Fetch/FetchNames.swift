// What files are called. A URL is somebody else's text: the name that comes of it is one component, in this folder, not
// hidden, no option for whoever lists the folder, and without what a terminal would take for commands.

/// Names of files, each given out once.
struct FetchNames {
    /// What is behind a name while its file is not whole.
    static let partSuffix = ".part"
    /// What is behind the name of the note beside it.
    static let noteSuffix = ".part.note"
    private static let limit = 200

    private var taken: Set<String> = []

    /// A name for the file of a URL. The same list of URLs has the same names every time: that is how an interrupted
    /// run goes on.
    mutating func take(for url: String) -> String {
        let name = Self.name(of: url)
        var candidate = name
        var number = 1
        while !isFree(candidate) {
            number += 1
            candidate = Self.numbered(name, number)
        }
        for suffix in ["", Self.partSuffix, Self.noteSuffix] { taken.insert(candidate + suffix) }
        return candidate
    }

    private func isFree(_ name: String) -> Bool {
        ["", Self.partSuffix, Self.noteSuffix].allSatisfy { !taken.contains(name + $0) }
    }

    /// The last part of the URL's path, made harmless.
    static func name(of url: String) -> String {
        var rest = url[...]
        if let end = rest.firstIndex(where: { $0 == "?" || $0 == "#" }) { rest = rest[..<end] }
        // Behind the host, if there is a path at all.
        if let slashes = rest.firstRange(of: "://") { rest = rest[slashes.upperBound...] }
        guard let slash = rest.firstIndex(of: "/") else { return "index" }
        let last = rest[slash...].split(separator: "/", omittingEmptySubsequences: false).last ?? ""
        return harmless(decoded(String(last)))
    }

    /// With percent-encoding undone, where that is text.
    private static func decoded(_ text: String) -> String {
        var bytes: [UInt8] = []
        let source = Array(text.utf8)
        var index = 0
        while index < source.count {
            if source[index] == UInt8(ascii: "%"), index + 2 < source.count,
                let high = FetchList.digit(source[index + 1]), let low = FetchList.digit(source[index + 2])
            {
                bytes.append(high << 4 | low)
                index += 3
            } else {
                bytes.append(source[index])
                index += 1
            }
        }
        return String(validating: bytes, as: UTF8.self) ?? text
    }

    private static func harmless(_ text: String) -> String {
        var name = ""
        for scalar in text.unicodeScalars {
            let isBad =
                scalar == "/" || scalar == "\\" || scalar.value < 0x20 || scalar.value == 0x7f
                || scalar.properties.generalCategory == .format || scalar.properties.generalCategory == .control
                || scalar.properties.generalCategory == .lineSeparator
                || scalar.properties.generalCategory == .paragraphSeparator
            name.unicodeScalars.append(isBad ? "_" : scalar)
        }
        if name.hasPrefix(".") || name.hasPrefix("-") { name = "_" + name.dropFirst() }
        while name.utf8.count > limit { name.removeLast() }
        name = String(name.reversed().drop { $0 == " " }.reversed())
        return name.isEmpty ? "index" : name
    }

    /// `photo.jpg` becomes `photo-2.jpg`.
    private static func numbered(_ name: String, _ number: Int) -> String {
        guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return "\(name)-\(number)" }
        return "\(name[..<dot])-\(number)\(name[dot...])"
    }
}
