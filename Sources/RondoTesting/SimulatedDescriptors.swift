// The descriptors of a simulated world. As in a real one the lowest free number is given out, so a number is soon used
// again: who uses one that he has closed hits a stranger, and the test finds it.

import Rondo

/// What a descriptor can stand for.
class SimulatedObject {
    /// Operations that are under way on it.
    var operations = 0
    /// What it is, for reports.
    var description: String { "nothing" }
    /// It was closed.
    func close() {}
}

/// The table of open descriptors.
struct SimulatedDescriptors {
    /// Far above the numbers of real descriptors: a real call on a simulated one fails with EBADF.
    static let firstNumber: Int32 = 1_000_000

    private var objects: [SimulatedObject?] = []
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
        let index = objects[searchStart...].firstIndex { $0 == nil } ?? objects.count
        if index == objects.count { objects.append(object) } else { objects[index] = object }
        searchStart = index + 1
        return Descriptor(rawValue: Self.firstNumber + Int32(index))
    }

    subscript(_ descriptor: Descriptor) -> SimulatedObject? {
        let index = Int(descriptor.rawValue) - Int(Self.firstNumber)
        return objects.indices.contains(index) ? objects[index] : nil
    }

    /// Frees the number, and answers what it stood for.
    mutating func close(_ descriptor: Descriptor) -> SimulatedObject? {
        guard let object = self[descriptor] else { return nil }
        let index = Int(descriptor.rawValue) - Int(Self.firstNumber)
        objects[index] = nil
        searchStart = min(searchStart, index)
        count -= 1
        return object
    }

    /// What is open, by number.
    var all: [String] { objects.compactMap { $0?.description } }
}
