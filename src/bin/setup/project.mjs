// The checkout itself: node_modules and dist.
import { join } from 'node:path'
import { SetupError } from './errors.mjs'
import { hashTree, readOptional, writeAtomic } from './files.mjs'
import { withLock } from './lock.mjs'
import { sha256 } from './paths.mjs'
import { lastLines, run } from './run.mjs'

const SOURCES = ['src', 'agent', 'schemas', 'package.json', 'tsconfig.json', 'tsconfig.build.json']

export async function installPackages(paths, say) {
  await withLock(paths.repoLock, say, async () => {
    const stampFile = join(paths.repo, 'node_modules', '.mctl-setup')
    const lock = readOptional(join(paths.repo, 'package-lock.json'))
    if (lock === undefined) throw new SetupError('package-lock.json is missing', 'Check the repository out again.')
    const stamp = sha256(lock, process.version)
    const installed = readOptional(join(paths.repo, 'node_modules', '.package-lock.json'))
    const found = readOptional(stampFile)
    if (found === stamp || (found === undefined && isInstalled(lock, installed))) {
      if (found === undefined) writeAtomic(stampFile, stamp)
      say('packages: up to date, skipped')
      return
    }
    say('packages: npm ci')
    await npm(
      paths,
      ['ci', '--no-audit', '--no-fund'],
      say,
      'The package registry must be reachable; see the lines above.',
    )
    writeAtomic(stampFile, stamp)
    say('packages: installed')
  })
}

export async function build(paths, say) {
  await withLock(paths.repoLock, say, async () => {
    const stampFile = join(paths.repo, 'dist', '.mctl-setup')
    const stamp = hashTree(paths.repo, SOURCES)
    if (readOptional(stampFile) === stamp) {
      say('build: up to date, skipped')
      return
    }
    say('build: tsc')
    await npm(paths, ['run', 'build'], say, 'The sources do not compile; see the lines above.')
    writeAtomic(stampFile, stamp)
    say('build: dist made')
  })
}

/** npm leaves in node_modules what it installed, last of all. Somebody who ran `npm ci` by hand need not do it again. */
export function isInstalled(lock, installed) {
  if (installed === undefined) return false
  const wanted = Object.entries(JSON.parse(lock).packages).filter(([path, entry]) => path !== '' && !entry.optional)
  const there = JSON.parse(installed).packages
  return wanted.every(([path, entry]) => there[path]?.version === entry.version)
}

async function npm(paths, args, say, remedy) {
  // npm itself may have started us: its own program, not one that the PATH finds.
  const [command, ...first] = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ['npm']
  const { code, output } = await run(command, [...first, ...args], {
    cwd: paths.repo,
    onLine: (line) => line && say.progress(`npm ${args[0]}: ${line}`),
  })
  if (code !== 0) throw new SetupError(`npm ${args.join(' ')} failed`, `${lastLines(output)}\n${remedy}`)
}
