/** Brings a shardhost to life: a process of its own session that outlives us, with no output and no environment of ours. */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf } from '../../src/lib/errors.ts'
import type { Logger } from '../../src/lib/log.ts'
import { nodeArgv } from '../../src/lib/nodeargv.ts'
import { specPath } from './statefile.ts'

export interface SpawnedHost {
  isRunning(): boolean
  kill(): void
}

/** `entry`: argv that runs the shardhost, before the path of its spec.json. One that cannot be started is not running. */
export function spawnHost(dir: string, entry: readonly string[] | undefined, log: Logger): SpawnedHost {
  const [command = process.execPath, ...args] = entry ?? nodeArgv(import.meta.url, 'main')
  const output = openSync(join(dir, 'host.log'), 'a', 0o600)
  const host = spawn(command, [...args, specPath(dir)], {
    cwd: dir,
    env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin' },
    stdio: ['ignore', output, output],
    detached: true,
  })
  closeSync(output)
  host.on('error', (error) => log.error('shardhost not started', { error: messageOf(error) }))
  host.unref()
  return {
    isRunning: () => host.pid !== undefined && host.exitCode === null && host.signalCode === null,
    kill: () => void host.kill('SIGKILL'),
  }
}
