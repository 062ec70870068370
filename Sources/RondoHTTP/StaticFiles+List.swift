// A folder's names as a page.

import HTTPTypes
import Rondo
import SystemPackage

extension StaticFiles {
    func sendList(_ path: FilePath, _ request: ServerRequest, _ response: ServerResponse) async throws {
        let entries = try await Directory.entries(of: path, beneath: root).filter { !RequestPath.isHidden($0.name) }
        let title = Self.escaped(String(request.path))
        var page = "<!doctype html><meta charset=utf-8><title>\(title)</title><h1>\(title)</h1><ul>\n"
        if path != "." { page += "<li><a href=\"../\">..</a>\n" }
        for entry in entries {
            let name = entry.kind == .directory ? entry.name + "/" : entry.name
            page += "<li><a href=\"./\(RequestPath.encoded(name))\">\(Self.escaped(name))</a>\n"
        }
        response.headers[.contentType] = "text/html; charset=utf-8"
        try await response.send(page + "</ul>\n")
    }

    private static func escaped(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        // Not by characters: with an accent a bracket is another one, for Swift, but not for a browser.
        for scalar in text.unicodeScalars {
            switch scalar {
            case "<": result += "&lt;".unicodeScalars
            case ">": result += "&gt;".unicodeScalars
            case "&": result += "&amp;".unicodeScalars
            case "\"": result += "&quot;".unicodeScalars
            default: result.append(scalar)
            }
        }
        return String(result)
    }
}
