// Deadlines, exact to the nanosecond and cheap by the million: a hierarchical timing wheel (Varghese and Lauck, 1987)
// whose finest slot is one nanosecond wide, which makes it a radix heap: nothing is ever rounded.
//
// A deadline is read as eleven digits of six bits. It stands at the level of the highest digit in which it differs
// from the wheel's time, in the slot which that digit names. So all of a level is earlier than all of the next. When
// time moves on, the levels below the highest digit that changed are due as a whole, and one slot must be placed anew.
// Adding and removing take constant time; a timer is placed anew at most once a level.

import CRondo

/// The timers of a loop. It belongs to the loop's thread.
@safe
final class TimerWheel {
    // SAFETY: `pointer` is given only indices that `takeNode` has given out, which are within the chunks; levels and
    // digits are within the tables.

    /// What happens when a timer is due.
    enum Target {
        /// A job becomes ready.
        case job(UnownedJob)
        /// An object is told.
        case callback(TimerCallback)
    }

    /// A timer's slot in the wheel's memory, valid until it fires or is removed.
    typealias Index = UInt32

    private static let none = Index.max
    private static let digitBits: UInt64 = 6
    private static let slotsPerLevel = 64
    private static let levels = 11

    private struct Node {
        var deadline: UInt64
        /// The job's address, or the retained callback's with bit 0 set.
        var target: UInt
        /// The task that sleeps on it, as an address; 0 for none.
        var sleeper: UInt
        var next: Index
        var previous: Index
        /// Level × 64 + digit, or `freeSlot`.
        var slot: UInt16
        /// How many timers have had this node before.
        var generation: UInt16
    }
    private static let freeSlot = UInt16.max
    /// In `due`.
    private static let dueSlot = UInt16.max - 1
    /// In `due`, and removed since.
    private static let removedSlot = UInt16.max - 2

    private struct List {
        var head: Index
        var tail: Index
    }

    /// Nodes stand in chunks that never move.
    private static let chunkBits: Index = 10
    private static let chunkSize = 1 << Int(chunkBits)
    private var chunks: [UnsafeMutablePointer<Node>] = unsafe []
    private var firstFree: Index = TimerWheel.none

    private let lists: UnsafeMutablePointer<List>
    private let occupied: UnsafeMutablePointer<UInt64>
    /// The wheel's time: every deadline before it has fired.
    private var time: UInt64
    /// Timers that are set.
    private(set) var count = 0
    /// A time at or before which no timer is due; exact unless the earliest timer was removed. `UInt64.max` if none.
    private var earliestBound = UInt64.max
    private typealias Due = (deadline: UInt64, order: UInt32, node: Index)
    /// What is due, in order; fired up to `firstDue`.
    private var due: [Due] = []
    private var firstDue = 0
    /// By how much timers were late that have fired.
    private(set) var lateness = LagHistogram()

    init(time: UInt64) {
        self.time = time
        // SAFETY: fresh memory of these sizes, freed in deinit.
        unsafe lists = .allocate(capacity: Self.levels * Self.slotsPerLevel)
        unsafe lists.initialize(
            repeating: List(head: Self.none, tail: Self.none), count: Self.levels * Self.slotsPerLevel)
        unsafe occupied = .allocate(capacity: Self.levels)
        unsafe occupied.initialize(repeating: 0, count: Self.levels)
    }

    deinit {
        unsafe lists.deallocate()
        unsafe occupied.deallocate()
        unsafe chunks.forEach { unsafe $0.deallocate() }
    }

    /// When the loop must look again: no timer is due before. `UInt64.max` if there is none.
    @inline(__always)
    var earliest: UInt64 { count == 0 ? .max : earliestBound }

    /// Sets a timer.
    ///
    /// - Parameter sleeper: the task that waits for nothing but this timer.
    func add(deadline: UInt64, target: Target, sleeper: JobReference? = nil) -> Index {
        let index = takeNode()
        // SAFETY: takeNode answers an index within the chunks.
        let node = unsafe pointer(index)
        unsafe node.pointee.deadline = deadline
        unsafe node.pointee.sleeper = sleeper?.bits ?? 0
        switch target {
        case .job(let job): unsafe node.pointee.target = JobReference(job).bits
        case .callback(let callback):
            // SAFETY: the reference is taken back when the timer fires or is removed.
            unsafe node.pointee.target = UInt(bitPattern: Unmanaged.passRetained(callback).toOpaque()) | 1
        }
        place(index)
        if count == 0 || deadline < earliestBound { earliestBound = deadline }
        count += 1
        return index
    }

    /// Takes a timer back before it fires.
    @discardableResult
    func remove(_ index: Index) -> Target {
        count -= 1
        // SAFETY: the caller's timer is set, so the index is within the chunks.
        let node = unsafe pointer(index)
        if unsafe node.pointee.slot == Self.dueSlot {
            unsafe node.pointee.slot = Self.removedSlot
            return takeTarget(index)
        }
        unlink(index)
        recycle(index)
        return takeTarget(index)
    }

    /// Whether this timer is set and `task` sleeps on it. Any index and any generation may be asked about.
    @inline(__always)
    func isSet(_ index: Index, generation: UInt16, sleeper task: JobReference) -> Bool {
        guard unsafe Int(index) < chunks.count << Int(Self.chunkBits) else { return false }
        // SAFETY: the index is within the chunks.
        let node = unsafe pointer(index)
        return unsafe node.pointee.sleeper == task.bits && node.pointee.generation == generation
    }

    /// When a timer on which `task` sleeps is due; nil if it is none.
    func deadline(of index: Index, generation: UInt16, sleeper task: JobReference) -> UInt64? {
        // SAFETY: a timer that is set is within the chunks.
        isSet(index, generation: generation, sleeper: task) ? unsafe pointer(index).pointee.deadline : nil
    }

    /// Tells a timer from others that have the same index at another time.
    @inline(__always)
    func generation(of index: Index) -> UInt16 {
        // SAFETY: the caller's timer is set, so the index is within the chunks.
        unsafe pointer(index).pointee.generation
    }

    /// Moves the wheel's time on and fires what is due, earliest first; equals in the order in which they were set.
    ///
    /// - Parameter limit: the most to fire; what is left is due at once, and fires before anything else.
    func advance(to now: UInt64, limit: Int = .max, fire: (Target) -> Void) {
        if firstDue == due.count {
            if count == 0 {
                time = max(time, now)
                return
            }
            if now < earliestBound { return }
            collectDue(to: max(now, time))
        }
        fireDue(due, at: now, limit: limit, fire: fire)
        if firstDue < due.count {
            earliestBound = 0
        } else {
            forgetDue()
            updateEarliest()
        }
    }

    private func fireDue(_ due: [Due], at now: UInt64, limit: Int, fire: (Target) -> Void) {
        var left = limit
        while firstDue < due.count, left > 0 {
            let (deadline, _, node) = due[firstDue]
            prefetch(after: firstDue, of: due)
            firstDue &+= 1
            left &-= 1
            let wasRemoved = unsafe pointer(node).pointee.slot == Self.removedSlot
            recycle(node)
            if wasRemoved { continue }
            count -= 1
            lateness.record(now &- min(deadline, now))
            fire(takeTarget(node))
        }
    }

    private func forgetDue() {
        // Taken out and put back: an array of a class that is changed in place is checked at every access.
        var list = due
        due = []
        list.removeAll(keepingCapacity: list.count <= 65_536)
        due = list
        firstDue = 0
    }

    /// Starts to load what firing the timers behind `position` will touch: the node, what it tells, and the task that
    /// is told in turn (which may be gone: its address is a hint, and must not be looked behind).
    @inline(__always)
    private func prefetch(after position: Int, of due: [Due]) {
        // SAFETY: nodes of due timers stay where they are.
        if position + 8 < due.count { rondo_prefetch(UInt(bitPattern: unsafe pointer(due[position + 8].node))) }
        if position + 4 < due.count {
            let node = unsafe pointer(due[position + 4].node)
            let (target, sleeper) = unsafe (node.pointee.target, node.pointee.sleeper)
            for offset in stride(from: UInt(0), to: 320, by: 64) { rondo_prefetch(target &+ offset) }
            for offset in stride(from: UInt(0), to: 192, by: 64) { rondo_prefetch(sleeper &+ offset) }
        }
    }

    private func collectDue(to now: UInt64) {
        var due = due
        self.due = []
        defer { self.due = due }
        let changed = Self.level(of: now ^ time)
        for level in 0...changed {
            let digit = Self.digit(of: now, level: level)
            // SAFETY: levels and digits are within the tables, here and below.
            var slots = unsafe occupied[level]
            if level == changed { slots &= (1 << UInt64(digit)) &- 1 }
            while slots != 0 {
                let slot = slots.trailingZeroBitCount
                slots &= slots &- 1
                collect(level: level, slot: slot, into: &due)
            }
        }
        // One slot holds both sides of `now`.
        let digit = Self.digit(of: now, level: changed)
        var index = detach(level: changed, slot: digit)
        time = now
        let first = due.count
        while index != Self.none {
            let node = unsafe pointer(index)
            let next = unsafe node.pointee.next
            if unsafe node.pointee.deadline <= now { append(index, to: &due) } else { place(index) }
            index = next
        }
        Self.sort(&due, from: first)
    }

    /// Moves a slot's timers to `due`.
    private func collect(level: Int, slot: Int, into due: inout [Due]) {
        let first = due.count
        var index = detach(level: level, slot: slot)
        while index != Self.none {
            append(index, to: &due)
            index = unsafe pointer(index).pointee.next
        }
        Self.sort(&due, from: first)
    }

    private func append(_ index: Index, to due: inout [Due]) {
        unsafe pointer(index).pointee.slot = Self.dueSlot
        due.append((unsafe pointer(index).pointee.deadline, UInt32(truncatingIfNeeded: due.count), index))
    }

    private static func sort(_ due: inout [Due], from first: Int) {
        guard due.count - first > 1 else { return }
        unsafe due.withUnsafeMutableBufferPointer { all in
            var part = unsafe UnsafeMutableBufferPointer(rebasing: all[first...])
            unsafe part.sort { ($0.deadline, $0.order) < ($1.deadline, $1.order) }
        }
    }

    /// Finds the earliest deadline: in the first slot that holds any.
    private func updateEarliest() {
        earliestBound = .max
        for level in 0..<Self.levels {
            let slots = unsafe occupied[level]
            if slots == 0 { continue }
            var index = unsafe lists[level * Self.slotsPerLevel + slots.trailingZeroBitCount].head
            while index != Self.none {
                let node = unsafe pointer(index)
                earliestBound = min(earliestBound, unsafe node.pointee.deadline)
                index = unsafe node.pointee.next
            }
            return
        }
    }

    /// Takes all timers back, in no particular order.
    func removeAll(_ body: (_ target: Target, _ deadline: UInt64) -> Void) {
        for index in unsafe 0..<Index(chunks.count << Int(Self.chunkBits)) {
            // SAFETY: within the chunks.
            let node = unsafe pointer(index)
            if unsafe node.pointee.slot == Self.freeSlot || node.pointee.slot == Self.removedSlot { continue }
            let deadline = unsafe node.pointee.deadline
            body(remove(index), deadline)
        }
        while firstDue < due.count {
            recycle(due[firstDue].node)
            firstDue += 1
        }
        forgetDue()
    }

    /// The callbacks of all timers, in no particular order.
    var callbacks: [TimerCallback] {
        var callbacks: [TimerCallback] = []
        for index in unsafe 0..<Index(chunks.count << Int(Self.chunkBits)) {
            // SAFETY: within the chunks; a timer that is set keeps its callback.
            let node = unsafe pointer(index)
            if unsafe node.pointee.slot == Self.freeSlot || node.pointee.slot == Self.removedSlot { continue }
            if unsafe node.pointee.target & 1 == 0 { continue }
            let callback = unsafe UnsafeRawPointer(bitPattern: node.pointee.target & ~1)!
            unsafe callbacks.append(Unmanaged<TimerCallback>.fromOpaque(callback).takeUnretainedValue())
        }
        return callbacks
    }

    // Places and lists.

    /// The highest digit that is not zero.
    @inline(__always)
    private static func level(of difference: UInt64) -> Int {
        difference == 0 ? 0 : (63 - difference.leadingZeroBitCount) / Int(digitBits)
    }

    @inline(__always)
    private static func digit(of time: UInt64, level: Int) -> Int {
        Int(truncatingIfNeeded: time >> (UInt64(level) * digitBits)) & (slotsPerLevel - 1)
    }

    /// Appends a node to the list where its deadline belongs. What is past already is due at the wheel's time.
    private func place(_ index: Index) {
        // SAFETY: level and digit are within the tables; indices in lists are those of nodes that are set.
        let node = unsafe pointer(index)
        let key = unsafe max(node.pointee.deadline, time)
        let level = Self.level(of: key ^ time)
        let digit = Self.digit(of: key, level: level)
        let slot = level * Self.slotsPerLevel + digit
        let list = unsafe lists + slot
        unsafe node.pointee.slot = UInt16(slot)
        unsafe node.pointee.next = Self.none
        unsafe node.pointee.previous = list.pointee.tail
        if unsafe list.pointee.tail == Self.none {
            unsafe list.pointee.head = index
            unsafe occupied[level] |= 1 << UInt64(digit)
        } else {
            unsafe pointer(list.pointee.tail).pointee.next = index
        }
        unsafe list.pointee.tail = index
    }

    private func unlink(_ index: Index) {
        // SAFETY: as in place.
        let node = unsafe pointer(index)
        let slot = unsafe Int(node.pointee.slot)
        let (previous, next) = unsafe (node.pointee.previous, node.pointee.next)
        let list = unsafe lists + slot
        if previous == Self.none {
            unsafe list.pointee.head = next
        } else {
            unsafe pointer(previous).pointee.next = next
        }
        if next == Self.none {
            unsafe list.pointee.tail = previous
        } else {
            unsafe pointer(next).pointee.previous = previous
        }
        if unsafe list.pointee.head == Self.none {
            unsafe occupied[slot / Self.slotsPerLevel] &= ~(1 << UInt64(slot % Self.slotsPerLevel))
        }
    }

    /// Empties a list and answers its first node.
    private func detach(level: Int, slot: Int) -> Index {
        let list = unsafe lists + (level * Self.slotsPerLevel + slot)
        let head = unsafe list.pointee.head
        unsafe list.pointee = List(head: Self.none, tail: Self.none)
        unsafe occupied[level] &= ~(1 << UInt64(slot))
        return head
    }

    // Nodes.

    @inline(__always)
    private func pointer(_ index: Index) -> UnsafeMutablePointer<Node> {
        // SAFETY: an index that takeNode gave out is within its chunk.
        unsafe chunks[Int(index >> Self.chunkBits)] + Int(index & (1 << Self.chunkBits - 1))
    }

    private func takeNode() -> Index {
        if firstFree == Self.none { addChunk() }
        let index = firstFree
        firstFree = unsafe pointer(index).pointee.next
        return index
    }

    /// Puts a node on the free list. Its target stays until the node is taken again.
    private func recycle(_ index: Index) {
        let node = unsafe pointer(index)
        unsafe node.pointee.slot = Self.freeSlot
        unsafe node.pointee.generation &+= 1
        unsafe node.pointee.next = firstFree
        firstFree = index
    }

    /// What a timer was set for; asked once, when it fires or is removed.
    private func takeTarget(_ index: Index) -> Target {
        let node = unsafe pointer(index)
        unsafe node.pointee.sleeper = 0
        let target = unsafe node.pointee.target
        if target & 1 == 0 { return .job(JobReference(bits: target)!.job) }
        // SAFETY: takes back the reference of add().
        let callback = unsafe Unmanaged<TimerCallback>.fromOpaque(UnsafeRawPointer(bitPattern: target & ~1)!)
        return .callback(unsafe callback.takeRetainedValue())
    }

    private func addChunk() {
        let base = unsafe Index(chunks.count) << Self.chunkBits
        // SAFETY: fresh memory; freed in deinit.
        let chunk = UnsafeMutablePointer<Node>.allocate(capacity: Self.chunkSize)
        for offset in 0..<Self.chunkSize {
            let next = offset + 1 == Self.chunkSize ? Self.none : base + Index(offset) + 1
            unsafe (chunk + offset).initialize(
                to: Node(
                    deadline: 0, target: 0, sleeper: 0, next: next, previous: Self.none, slot: Self.freeSlot,
                    generation: 0))
        }
        unsafe chunks = chunks + [chunk]
        firstFree = base
    }
}

/// What a timer tells when it is due.
class TimerCallback {
    /// On the loop's thread.
    func fire() { crash("a timer callback without an action") }

    /// On the loop's thread: the loop shuts down. Who waits for this timer only may want to wait no longer.
    func loopShutsDown() {}

    /// On the loop's thread: the loop closes, and the timer will not fire.
    func loopCloses(nanosecondsLeft: UInt64) {}
}
