/**
 * How a process of ours starts another file of ours with this same Node: the built `.js` as it stands, or, when we run
 * from the sources, the `.ts` by way of tsx (Node 20 does not read TypeScript). And where files beside the code are
 * that a build does not copy.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** argv that runs the module `name` (no ending) beside the caller; `callerUrl` is its import.meta.url. */
export function nodeArgv(callerUrl: string, name: string): readonly string[] {
  const caller = fileURLToPath(callerUrl)
  if (!caller.endsWith('.ts')) return [process.execPath, join(dirname(caller), `${name}.js`)]
  const loader = join(tsxFolder(callerUrl), 'loader.mjs')
  return [process.execPath, '--import', pathToFileURL(loader).href, join(dirname(caller), `${name}.ts`)]
}

/** The module that a thread of this process runs: the file `name` (no ending) beside the caller. */
export function workerUrl(callerUrl: string, name: string): URL {
  const caller = fileURLToPath(callerUrl)
  if (!caller.endsWith('.ts')) return pathToFileURL(join(dirname(caller), `${name}.js`))
  // tsx's loader leaves threads alone: they have to ask for it.
  const tsx = pathToFileURL(join(tsxFolder(callerUrl), 'esm', 'api', 'index.mjs'))
  const file = pathToFileURL(join(dirname(caller), `${name}.ts`))
  const code = `import { register } from ${JSON.stringify(tsx.href)}; register(); await import(${JSON.stringify(file.href)})`
  return new URL(`data:text/javascript,${encodeURIComponent(code)}`)
}

const tsxFolder = (callerUrl: string): string =>
  join(dirname(createRequire(callerUrl).resolve('tsx/package.json')), 'dist')

/** The package's root, seen from the sources or from `dist/`: the nearest folder above with a package.json. */
export function packageRoot(callerUrl: string): string {
  let dir = dirname(fileURLToPath(callerUrl))
  while (!existsSync(join(dir, 'package.json')) && dirname(dir) !== dir) dir = dirname(dir)
  return dir
}
