// Where things lie. The agent and `mctl dev` look in the same places.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** MCTL_HOME, else the user's data folder of the platform. */
export function userDataDir(env, platform, home) {
  if (env.MCTL_HOME) return env.MCTL_HOME
  if (platform === 'darwin') return join(home, 'Library', 'Application Support', 'mctl')
  return join(env.XDG_DATA_HOME || join(home, '.local', 'share'), 'mctl')
}

/** MCTL_CACHE_DIR, else where the platform keeps what can be made again. */
export function userCacheDir(env, platform, home) {
  if (env.MCTL_CACHE_DIR) return env.MCTL_CACHE_DIR
  if (platform === 'darwin') return join(home, 'Library', 'Caches', 'mctl')
  return join(env.XDG_CACHE_HOME || join(home, '.cache'), 'mctl')
}

export function modelsDir(env, userData) {
  return env.MCTL_MODELS_DIR || join(userData, 'models')
}

export function sha256(...parts) {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

export function setupPaths(env, platform) {
  const repo = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '')
  const mlx = join(repo, 'agent', 'runtimes', 'mlx')
  const userData = userDataDir(env, platform, homedir())
  const lock = sha256(readFileSync(join(mlx, 'requirements.lock')))
  const llamacppCode = join(repo, 'agent', 'runtimes', 'llamacpp')
  const llamacppLock = sha256(...['source.lock', 'build.lock'].map((name) => readFileSync(join(llamacppCode, name))))
  const llamacppKey = sha256(llamacppLock, processorOf(platform, process.arch)).slice(0, 12)
  return {
    platform,
    repo,
    mlx,
    userData,
    lock,
    engine: join(userData, 'engines', `mlx-${lock.slice(0, 12)}`),
    engineFile: join(userData, 'engines', 'mlx.json'),
    models: modelsDir(env, userData),
    demoModel: join(modelsDir(env, userData), 'smollm2-135m'),
    llamacppCode,
    llamacppLock,
    // Not by MCTL_HOME: a test's own home takes the build that is there.
    llamacpp: join(userCacheDir(env, platform, homedir()), `llamacpp-${llamacppKey}`),
    llamacppFile: join(userData, 'engines', 'llamacpp.json'),
    demoGguf: join(modelsDir(env, userData), 'smollm2-135m-gguf'),
    // Not in the checkout: `npm ci` empties node_modules, and the tree should stay clean.
    repoLock: join(tmpdir(), `mctl-setup-${sha256(repo).slice(0, 12)}.lock`),
  }
}

/** What a compiler sees of this processor: code for another one may not run here. */
export function processorOf(platform, arch) {
  if (platform !== 'linux') return `${platform}-${arch}`
  const text = readFileSync('/proc/cpuinfo', 'utf8')
  return `${platform}-${arch} ${/^(?:flags|Features)\s*:\s*(.*)$/m.exec(text)?.[1] ?? ''}`
}
