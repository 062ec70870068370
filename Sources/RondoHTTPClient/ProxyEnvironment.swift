// Which proxy the environment wants for a URL. libcurl can tell by itself; but a proxy's name must be looked up on the
// loop before libcurl needs it.

import Glibc

/// The proxies that the environment names, as it was when this was made.
struct ProxyEnvironment: Sendable {
    private var proxies: [String: String] = [:]
    private var exceptions: [Substring] = []

    /// What the variables say. `HTTP_PROXY` in capitals is not heard: in a CGI program it is a header of a request.
    init(_ variable: (String) -> String? = Self.variable) {
        let all = variable("all_proxy") ?? variable("ALL_PROXY")
        proxies["http"] = variable("http_proxy") ?? all
        proxies["https"] = variable("https_proxy") ?? variable("HTTPS_PROXY") ?? all
        let list = variable("no_proxy") ?? variable("NO_PROXY") ?? ""
        exceptions = list.lowercased().split { $0 == "," || $0 == " " }.map { Substring(String($0)) }
    }

    /// The proxy's URL; nil for none.
    func proxy(scheme: String, host: String, port: Int) -> String? {
        guard let proxy = proxies[scheme], !proxy.isEmpty, !isException(host, port) else { return nil }
        return proxy
    }

    /// A name stands for itself and all below it, with or without a dot before; `*` for everything. A port may follow.
    private func isException(_ host: String, _ port: Int) -> Bool {
        let host = host.lowercased()
        return exceptions.contains { entry in
            if entry == "*" { return true }
            var name = entry
            if let colon = name.lastIndex(of: ":"), name.firstIndex(of: ":") == colon {
                guard name[name.index(after: colon)...] == "\(port)" else { return false }
                name = name[..<colon]
            }
            name = name.drop { $0 == "." || $0 == "[" }
            if name.last == "]" { name = name.dropLast() }
            return !name.isEmpty && (host == name || host.hasSuffix(".\(name)"))
        }
    }

    static func variable(_ name: String) -> String? {
        // SAFETY: the string is copied at once; programs that change their environment do so before they have threads.
        unsafe getenv(name).map { unsafe String(cString: $0) }
    }
}
