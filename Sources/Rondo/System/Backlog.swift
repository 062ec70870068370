// What has to wait its turn, in order; most of the time nothing.
//
// A class of its own, because Swift checks at run time that nobody touches an array of a class while it is being
// changed in place, and then checks every access to that property. Asking whether a backlog is empty stays one load.

/// A first-in-first-out queue.
final class Backlog<Element> {
    private(set) var isEmpty = true
    private var elements: [Element] = []
    private var head = 0

    var count: Int { elements.count - head }

    func append(_ element: Element) {
        elements.append(element)
        isEmpty = false
    }

    func popFirst() -> Element? {
        if isEmpty { return nil }
        let element = elements[head]
        head += 1
        if head == elements.count {
            elements.removeAll(keepingCapacity: true)
            head = 0
            isEmpty = true
        }
        return element
    }

    /// Empties it. What is appended while `body` runs stays for the next time.
    func drain(_ body: (Element) -> Void) {
        if isEmpty { return }
        let drained = elements[head...]
        elements = []
        head = 0
        isEmpty = true
        drained.forEach(body)
    }
}
