// The engine mlx: a virtual environment of its own, exactly what requirements.lock says. The agent reads mlx.json.
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { SetupError } from './errors.mjs'
import { readOptional, writeAtomic } from './files.mjs'
import { withLock } from './lock.mjs'
import { lastLines, run } from './run.mjs'

// mlx-lm refuses older ones; each of these has wheels for every package of the lock.
const LEAST_MINOR = 11
const CANDIDATES = ['python3.13', 'python3.12', 'python3.11', 'python3.14', 'python3', 'python']
const ASK_VERSION = 'import sys, venv, ensurepip; print("python", *sys.version_info[:2])'
const REMEDY = `The engine mlx needs Python 3.${LEAST_MINOR} or newer with venv and pip.
macOS: brew install python@3.13
Debian or Ubuntu: apt install python3 python3-venv
Or name one: MCTL_PYTHON=/path/to/python3 npm run setup`

export async function installEngine(paths, say) {
  await withLock(join(dirname(paths.engine), '.setup.lock'), say, async () => {
    const python = join(paths.engine, 'bin', 'python')
    if (existsSync(join(paths.engine, '.complete')) && (await imports(python, 'mlx.core'))) {
      say('engine mlx: up to date, skipped')
    } else {
      await makeEnvironment(paths, python, say)
    }
    const record = `${JSON.stringify({ python, lock: paths.lock })}\n`
    if (readOptional(paths.engineFile) !== record) writeAtomic(paths.engineFile, record)
  })
}

async function makeEnvironment(paths, python, say) {
  const base = await findPython(process.env)
  // Half made, or its Python was removed from the machine.
  rmSync(paths.engine, { recursive: true, force: true })
  mkdirSync(dirname(paths.engine), { recursive: true })
  say(`engine mlx: making ${paths.engine} with ${base}`)
  const made = await run(base, ['-m', 'venv', paths.engine])
  if (made.code !== 0) throw new SetupError(`${base} -m venv failed`, `${lastLines(made.output)}\n${REMEDY}`)
  const lock = join(paths.mlx, 'requirements.lock')
  await pip(python, ['-r', lock], say, `engine mlx: of ${countPackages(readFileSync(lock, 'utf8'))} packages`)
  say.progress('engine mlx: first import')
  if (!(await imports(python, 'mlx.core, mlx_lm'))) {
    throw new SetupError(
      'the installed engine does not run on this machine',
      `Try: ${python} -c "import mlx.core, mlx_lm"\nLinux needs glibc 2.35 or newer, macOS 14 or newer on Apple silicon.`,
    )
  }
  writeAtomic(join(paths.engine, '.complete'), `${paths.lock}\n`)
  say('engine mlx: installed')
}

/** The first Python that really runs, is new enough and can make environments. A shim that only prints an error is none. */
export async function findPython(env, runIt = run) {
  for (const candidate of env.MCTL_PYTHON ? [env.MCTL_PYTHON] : CANDIDATES) {
    const { code, output } = await runIt(candidate, ['-c', ASK_VERSION])
    const version = /^python (\d+) (\d+)$/m.exec(output)
    if (code === 0 && version && isNewEnough(Number(version[1]), Number(version[2]))) return candidate
  }
  throw new SetupError('no suitable Python found', REMEDY)
}

export function isNewEnough(major, minor) {
  return major === 3 && minor >= LEAST_MINOR
}

export function countPackages(lock) {
  return lock.split('\n').filter((line) => /^[a-z0-9]/i.test(line)).length
}

/** pip under the lock's hashes, wheels only: nothing is compiled and nothing else can come in. */
export async function pip(python, args, say, title) {
  let count = 0
  const onLine = (line) => {
    if (!/^(Collecting|Downloading|Installing)/.test(line)) return
    if (line.startsWith('Collecting')) count += 1
    say.progress(`${title} ${count}: ${line.split(' (')[0]}`)
  }
  const fixed = [
    '--require-hashes',
    '--only-binary=:all:',
    '--no-input',
    '--disable-pip-version-check',
    '--progress-bar=off',
  ]
  const { code, output } = await run(python, ['-m', 'pip', 'install', ...fixed, ...args], { onLine })
  if (code === 0) return
  throw new SetupError(
    'pip install failed',
    `${lastLines(output)}\nThe package index must be reachable (PIP_INDEX_URL and HTTPS_PROXY are obeyed). Then run npm run setup again.`,
  )
}

async function imports(python, modules) {
  return (await run(python, ['-c', `import ${modules}`])).code === 0
}
