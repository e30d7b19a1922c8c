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
  return {
    repo,
    mlx,
    userData,
    lock,
    engine: join(userData, 'engines', `mlx-${lock.slice(0, 12)}`),
    engineFile: join(userData, 'engines', 'mlx.json'),
    models: modelsDir(env, userData),
    demoModel: join(modelsDir(env, userData), 'smollm2-135m'),
    // Not in the checkout: `npm ci` empties node_modules, and the tree should stay clean.
    repoLock: join(tmpdir(), `mctl-setup-${sha256(repo).slice(0, 12)}.lock`),
  }
}
