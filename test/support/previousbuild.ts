/**
 * The build before this one, made from git once and kept in the cache: sources of the commit that fixtures/previous-version
 * names, with packages of its own (those of this checkout where they are the same). Where the history is not there (a shallow clone) the commit is fetched.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { root } from './processes.ts'

const ENTRY = 'dist/src/bin/mctl.js'

/** Path of its mctl.js; undefined when neither history nor network has the commit: it is said on stderr. */
export function previousBuild(): string | undefined {
  const commit = readFileSync(join(root, 'test/fixtures/previous-version'), 'utf8').replaceAll(/^#.*$/gm, '').trim()
  const cache =
    process.env['MCTL_CACHE_DIR'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'mctl')
  const folder = join(cache, 'previous', `${commit.slice(0, 12)}-own`)
  if (existsSync(join(folder, ENTRY))) return join(folder, ENTRY)
  if (!has(commit)) {
    console.warn(`the previous build is not there: git has no commit ${commit} (shallow clone?) and could not fetch it`)
    return undefined
  }
  mkdirSync(join(folder, '..'), { recursive: true })
  const fresh = mkdtempSync(`${folder}-`)
  try {
    const sources = execFileSync('git', ['archive', commit], { cwd: root, maxBuffer: 2 ** 28 })
    execFileSync('tar', ['-x', '-C', fresh], { input: sources })
    // What is compiled for this machine need not be compiled again; the rest is as that commit's lock file says.
    cpSync(join(root, 'node_modules'), join(fresh, 'node_modules'), { recursive: true, verbatimSymlinks: true })
    execFileSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'], { cwd: fresh })
    execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'], { cwd: fresh })
    rmSync(folder, { recursive: true, force: true })
    renameSync(fresh, folder)
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
  return join(folder, ENTRY)
}

function has(commit: string): boolean {
  const git = (...args: string[]) => {
    try {
      execFileSync('git', args, { cwd: root, stdio: 'ignore', timeout: 60_000 })
      return true
    } catch {
      return false
    }
  }
  return git('cat-file', '-e', `${commit}^{commit}`) || git('fetch', '--depth=1', 'origin', commit)
}
