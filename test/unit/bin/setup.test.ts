/** What `npm run setup` decides before it does anything. Plain JavaScript, so its words are described here. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'

const folder = new URL('../../../src/bin/setup/', import.meta.url).href
interface Setup {
  userDataDir(env: Record<string, string>, platform: string, home: string): string
  modelsDir(env: Record<string, string>, userData: string): string
  isInstalled(lock: string, installed: string | undefined): boolean
  isNewEnough(major: number, minor: number): boolean
  countPackages(lock: string): number
  findPython(env: object, run: (name: string) => Promise<{ code: number; output: string }>): Promise<string>
  hashTree(root: string, names: string[]): string
  userCacheDir(env: Record<string, string>, platform: string, home: string): string
  problemOf(folder: string): Promise<string | undefined>
  installLlamaCpp(paths: object, say: (line: string) => void): Promise<void>
  withLock<T>(path: string, say: (line: string) => void, work: () => Promise<T>): Promise<T>
}
const files = ['paths.mjs', 'project.mjs', 'engine.mjs', 'llamacpp.mjs', 'files.mjs', 'lock.mjs']
const setup = Object.assign({}, ...(await Promise.all(files.map((file) => import(folder + file))))) as Setup

let dir: string
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'mctl-setup-test-'))))
afterEach(() => rmSync(dir, { recursive: true, force: true }))

test('things lie where the platform keeps user data, unless MCTL_HOME or MCTL_MODELS_DIR say otherwise', () => {
  expect(setup.userDataDir({}, 'darwin', '/Users/a')).toBe('/Users/a/Library/Application Support/mctl')
  expect(setup.userDataDir({}, 'linux', '/home/a')).toBe('/home/a/.local/share/mctl')
  expect(setup.userDataDir({ XDG_DATA_HOME: '/data' }, 'linux', '/home/a')).toBe('/data/mctl')
  expect(setup.userDataDir({ MCTL_HOME: '/m' }, 'darwin', '/Users/a')).toBe('/m')
  expect(setup.modelsDir({}, '/m')).toBe('/m/models')
  expect(setup.modelsDir({ MCTL_MODELS_DIR: '/big' }, '/m')).toBe('/big')
})

test('packages that somebody installed by hand count, if every version is the one of the lock', () => {
  const lock = JSON.stringify({ packages: { '': {}, a: { version: '1' }, b: { version: '2', optional: true } } })
  const installed = (version: string): string => JSON.stringify({ packages: { a: { version } } })
  expect(setup.isInstalled(lock, installed('1'))).toBe(true)
  expect(setup.isInstalled(lock, installed('2'))).toBe(false)
  expect(setup.isInstalled(lock, undefined)).toBe(false)
})

test('a Python that only prints an error, or is too old, is passed over; none is an error with a remedy', async () => {
  const answers: Record<string, { code: number; output: string }> = {
    'python3.13': { code: 127, output: 'Python versions to be found at the same time' },
    'python3.12': { code: 0, output: 'noise' },
    'python3.11': { code: 0, output: 'python 3 10\n' },
    python3: { code: 0, output: 'python 3 12\n' },
  }
  const run = (name: string): Promise<{ code: number; output: string }> =>
    Promise.resolve(answers[name] ?? { code: 127, output: '' })
  expect(await setup.findPython({}, run)).toBe('python3')
  await expect(setup.findPython({ MCTL_PYTHON: 'python3.11' }, run)).rejects.toMatchObject({
    message: 'no suitable Python found',
    remedy: expect.stringContaining('brew install python'),
  })
  expect([setup.isNewEnough(3, 10), setup.isNewEnough(3, 11), setup.isNewEnough(2, 99)]).toEqual([false, true, false])
})

test('packages of a lock are counted without their hashes', () => {
  expect(setup.countPackages('# by uv\nmlx==1 \\\n    --hash=sha256:ab\nnumpy==2 ; python_version < "3"\n')).toBe(2)
})

test('the stamp of sources follows names and contents, not caches', () => {
  mkdirSync(join(dir, 'src/__pycache__'), { recursive: true })
  writeFileSync(join(dir, 'src/a.ts'), 'one')
  const first = setup.hashTree(dir, ['src', 'missing'])
  writeFileSync(join(dir, 'src/__pycache__/a.pyc'), 'noise')
  expect(setup.hashTree(dir, ['src', 'missing'])).toBe(first)
  writeFileSync(join(dir, 'src/a.ts'), 'two')
  expect(setup.hashTree(dir, ['src', 'missing'])).not.toBe(first)
})

test('one at a time: the second waits for the first and says so once', async () => {
  const lock = join(dir, 'lock')
  const order: string[] = []
  const said: string[] = []
  const work = (name: string) => async (): Promise<void> => {
    order.push(`${name} in`)
    await new Promise((done) => setTimeout(done, 500))
    order.push(`${name} out`)
  }
  await Promise.all(['a', 'b'].map((name) => setup.withLock(lock, (line) => said.push(line), work(name))))
  expect(order).toEqual(['a in', 'a out', 'b in', 'b out'])
  expect(said).toEqual([expect.stringContaining(`pid ${process.pid}`)])
  expect(existsSync(lock)).toBe(false)
})

test('a lock whose owner is dead, or has not moved for long, is taken over', async () => {
  const child = spawn(process.execPath, ['-e', ''])
  await once(child, 'exit')
  const dead = join(dir, 'dead')
  mkdirSync(dead)
  writeFileSync(join(dead, 'pid'), String(child.pid))
  const still = join(dir, 'still')
  mkdirSync(still)
  writeFileSync(join(still, 'pid'), String(process.pid))
  utimesSync(still, new Date(0), new Date(0))
  const silent = (): void => {}
  expect(await setup.withLock(dead, silent, () => Promise.resolve('mine'))).toBe('mine')
  expect(await setup.withLock(still, silent, () => Promise.resolve('mine'))).toBe('mine')
})

test('what can be made again lies in the cache folder of the platform', () => {
  expect(setup.userCacheDir({}, 'darwin', '/Users/a')).toBe('/Users/a/Library/Caches/mctl')
  expect(setup.userCacheDir({}, 'linux', '/home/a')).toBe('/home/a/.cache/mctl')
  expect(setup.userCacheDir({ XDG_CACHE_HOME: '/c' }, 'linux', '/home/a')).toBe('/c/mctl')
  expect(setup.userCacheDir({ MCTL_CACHE_DIR: '/m' }, 'linux', '/home/a')).toBe('/m')
})

/** A folder as a finished build leaves it, with programs that say `answer`. */
function builtFolder(answer = 'exit 0'): string {
  const folder = join(dir, 'built')
  mkdirSync(folder)
  const files: Record<string, string> = {}
  for (const name of ['llama-server', 'ggml-rpc-server']) {
    const text = `#!/bin/sh\n${answer}\n`
    writeFileSync(join(folder, name), text)
    chmodSync(join(folder, name), 0o755)
    files[name] = createHash('sha256').update(text).digest('hex')
  }
  writeFileSync(join(folder, 'complete.json'), JSON.stringify({ files }))
  return folder
}

test('a build of llama.cpp counts only when it is whole, has the bytes that were built, and runs', async () => {
  expect(await setup.problemOf(join(dir, 'none'))).toBe('not whole')
  const folder = builtFolder()
  expect(await setup.problemOf(folder)).toBeUndefined()
  writeFileSync(join(folder, 'ggml-rpc-server'), '#!/bin/sh\nexit 0 \n')
  expect(await setup.problemOf(folder)).toBe('ggml-rpc-server is not what was built')
  rmSync(folder, { recursive: true })
  expect(await setup.problemOf(builtFolder('echo no such instruction; exit 1'))).toBe(
    'llama-server does not run: no such instruction',
  )
})

test('a whole build is skipped at once, and the agent is told where it is', async () => {
  const said: string[] = []
  const llamacppFile = join(dir, 'engines/llamacpp.json')
  const paths = { platform: 'linux', llamacpp: builtFolder(), llamacppFile, llamacppLock: 'lock' }
  await setup.installLlamaCpp(paths, (line) => said.push(line))
  expect(said).toEqual(['engine llamacpp: up to date, skipped'])
  expect(JSON.parse(readFileSync(llamacppFile, 'utf8'))).toEqual({ dir: paths.llamacpp, lock: 'lock' })
})

test('on macOS setup names the release to take, and why not Homebrew', async () => {
  const refused = setup.installLlamaCpp({ platform: 'darwin', llamacpp: join(dir, 'x') }, () => {})
  await expect(refused).rejects.toMatchObject({
    remedy: expect.stringMatching(/bin-macos-arm64\.tar\.gz[\s\S]*MCTL_LLAMACPP_DIR[\s\S]*without RPC/),
  })
})
