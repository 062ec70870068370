// Names for addresses: function, file and line, by the Swift runtime's own reader of debug information.

@_spi(Internal) import Runtime

/// A place in the program's code.
package struct CodePlace: Sendable, Equatable {
    /// The function, without its module.
    package var function: String
    /// The source file's path, as the compiler saw it; nil without debug information.
    package var file: String?
    package var line: Int?

    /// `fetch(_:) at Front.swift:42`.
    package var text: String {
        guard let file, let line, line > 0 else { return function }
        return "\(function) at \(file.split(separator: "/").last ?? ""):\(line)"
    }
}

/// Looks addresses up, and keeps what it has found. For one thread.
final class Symbols {
    private var known: [UInt: [CodePlace]] = [:]
    /// Addresses in code that nobody wrote.
    private var hidden: Set<UInt> = []
    /// Where the program's parts stand in memory; read once, as many small readings find less and less.
    private lazy var images = ImageMap.capture()

    /// The places of all these addresses, found together: one reading costs as much as hundreds.
    func look(up addresses: some Sequence<UInt>) {
        let unknown = Set(addresses).filter { $0 != 0 && known[$0] == nil }
        if unknown.isEmpty { return }
        for address in unknown { known[address] = [] }
        let backtrace = Backtrace(
            architecture: Self.architecture, frames: unknown.map { RichFrame<UInt64>.asyncResumePoint(UInt64($0)) },
            images: images)
        guard let symbols = backtrace.symbolicated(with: images) else { return }
        for frame in symbols.frames {
            guard let address = UInt64(frame.captured.originalProgramCounter), let symbol = frame.symbol else {
                continue
            }
            guard let function = Self.written(symbol.name) else {
                hidden.insert(UInt(address))
                continue
            }
            let location = symbol.sourceLocation.flatMap { $0.path.contains("<compiler-generated>") ? nil : $0 }
            let place = CodePlace(function: function, file: location?.path, line: location?.line)
            known[UInt(address), default: []].append(place)
        }
    }

    /// What the compiler and the runtime put between the functions of a program, more of it in release builds.
    private static let plumbing = [
        "partial apply for ", "protocol witness for ", "dispatch thunk of ", "thunk for ", "reabstraction thunk ",
        "completeTask", "task_wait_", "task_group_wait_", "_asyncLet_get_", "future_adapter",
    ]

    /// A function as the program's source has it; nil if it is not there.
    private static func written(_ symbol: String) -> String? {
        var name = symbol[...]
        for prefix in ["merged ", "specialized "] where name.hasPrefix(prefix) { name = name.dropFirst(prefix.count) }
        return plumbing.contains { name.hasPrefix($0) } ? nil : String(name)
    }

    /// The place of an address that was looked up; several where functions were inlined, innermost first; none in code
    /// that only leads from one function of the program to another.
    func places(of address: UInt) -> [CodePlace] {
        let places = known[address] ?? []
        if places.isEmpty, hidden.contains(address) { return [] }
        return places.isEmpty ? [CodePlace(function: "0x" + String(address, radix: 16))] : places
    }

    #if arch(x86_64)
    private static let architecture = "x86_64"
    #elseif arch(arm64)
    private static let architecture = "aarch64"
    #endif
}
