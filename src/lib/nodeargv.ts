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
  const require = createRequire(callerUrl)
  const loader = join(dirname(require.resolve('tsx/package.json')), 'dist', 'loader.mjs')
  return [process.execPath, '--import', pathToFileURL(loader).href, join(dirname(caller), `${name}.ts`)]
}

/** The package's root, seen from the sources or from `dist/`: the nearest folder above with a package.json. */
export function packageRoot(callerUrl: string): string {
  let dir = dirname(fileURLToPath(callerUrl))
  while (!existsSync(join(dir, 'package.json')) && dirname(dir) !== dir) dir = dirname(dir)
  return dir
}
