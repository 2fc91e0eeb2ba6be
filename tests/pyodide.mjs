// Runs pytest on the Python of Pyodide: node pyodide.mjs CHECKOUT SITE_PACKAGES ARGUMENT...
// Pyodide is looked up from the current folder. `nox -s pyodide` prepares all that.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [checkout, site, ...args] = process.argv.slice(2);
const found = createRequire(`${process.cwd()}/`).resolve("pyodide/pyodide.mjs");
const { loadPyodide } = await import(pathToFileURL(found));

const python = await loadPyodide({ env: { HOME: "/home/pyodide", PYTHONDONTWRITEBYTECODE: "1" } });
for (const [name, root] of [["/checkout", checkout], ["/site", site]]) {
  python.FS.mkdirTree(name);
  python.FS.mount(python.FS.filesystems.NODEFS, { root }, name);
}
python.globals.set("ARGUMENTS", python.toPy(args));
process.exitCode = python.runPython(`
import os, sys
sys.path[:0] = ["/checkout", "/checkout/integrations"]
sys.path.append("/site")
os.chdir("/checkout")
import pytest
print("Python", sys.version)
options = ["-q", "-p", "tests.harness.without_threads", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
options += ["-p", "no:unraisableexception"]  # coroutines that no event loop has run
int(pytest.main([*options, "-o", "timeout=0", *ARGUMENTS]))
`);
