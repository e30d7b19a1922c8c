/** Where this user's lasting files are: models, engines, the default data directory. Pure: environment in, path out. */
import { join } from 'node:path'

/** `MCTL_HOME`, else `~/Library/Application Support/mctl` (macOS), else `${XDG_DATA_HOME:-~/.local/share}/mctl`. */
export function userDataDir(env: Readonly<Record<string, string | undefined>>, platform: NodeJS.Platform): string {
  if (env['MCTL_HOME']) return env['MCTL_HOME']
  const home = env['HOME'] ?? '/'
  if (platform === 'darwin') return join(home, 'Library', 'Application Support', 'mctl')
  return join(env['XDG_DATA_HOME'] || join(home, '.local', 'share'), 'mctl')
}
