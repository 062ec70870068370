// The descriptors of a simulated world. As in a real one the lowest free number is given out, so a number is soon used
// again: who uses one that he has closed hits a stranger, and the test finds it. Several descriptors may stand for one
// object, when one was passed on.

import Rondo

/// What a descriptor can stand for.
class SimulatedObject {
    /// Descriptors that stand for it, and messages under way that it goes with.
    private var references = 0
    /// What it is, for reports.
    var description: String { "nothing" }
    /// Nothing refers to it any more.
    func close() {}

    /// One more refers to it.
    final func keep() { references += 1 }

    /// One less refers to it.
    final func letGo() {
        references -= 1
        if references == 0 { close() }
    }
}

/// The table of open descriptors.
struct SimulatedDescriptors {
    /// Far above the numbers of real descriptors: a real call on a simulated one fails with EBADF.
    static let firstNumber: Int32 = 1_000_000

    private struct Entry {
        let object: SimulatedObject
        /// Operations that are under way on this descriptor.
        var operations = 0
    }

    private var entries: [Entry?] = []
    /// Below this index all are open.
    private var searchStart = 0
    /// How many are open.
    private(set) var count = 0
    /// The most that may be open.
    let limit: Int

    init(limit: Int) { self.limit = limit }

    /// Gives `object` a number; nil if the limit is reached.
    mutating func open(_ object: SimulatedObject) -> Descriptor? {
        guard count < limit else { return nil }
        count += 1
        object.keep()
        let entry = Entry(object: object)
        let index = entries[searchStart...].firstIndex { $0 == nil } ?? entries.count
        if index == entries.count { entries.append(entry) } else { entries[index] = entry }
        searchStart = index + 1
        return Descriptor(rawValue: Self.firstNumber + Int32(index))
    }

    subscript(_ descriptor: Descriptor) -> SimulatedObject? { index(of: descriptor).flatMap { entries[$0]?.object } }

    private func index(of descriptor: Descriptor) -> Int? {
        let index = Int(descriptor.rawValue) - Int(Self.firstNumber)
        return entries.indices.contains(index) ? index : nil
    }

    /// An operation on a descriptor begins (1) or has ended (−1).
    mutating func count(_ change: Int, on descriptor: Descriptor) {
        if let index = index(of: descriptor) { entries[index]?.operations += change }
    }

    /// Frees the number, and answers what it stood for. That is closed when nothing else refers to it: see `letGo`.
    mutating func close(_ descriptor: Descriptor) -> SimulatedObject? {
        guard let index = index(of: descriptor), let entry = entries[index] else { return nil }
        require(
            entry.operations == 0,
            "\(entry.object.description) was closed with \(entry.operations) operation(s) on it under way")
        entries[index] = nil
        searchStart = min(searchStart, index)
        count -= 1
        return entry.object
    }

    /// What is open, by number.
    var all: [String] { entries.compactMap { $0?.object.description } }
}
