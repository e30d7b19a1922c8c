/** Composes what follows sources: git, the loop of Syncs, the watcher of local files, and the door for webhooks. */
import type { Clock, Random } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { spawnGit } from '../gitops/git.ts'
import { startGitops } from '../gitops/loop.ts'
import { createGitopsMetrics } from '../gitops/metrics.ts'
import { createReader, prepareFolder } from '../gitops/reader.ts'
import { watchSources } from '../gitops/watching.ts'
import { openWebhookDoor } from '../gitops/webhook.ts'
import type { Store } from '../store/store.ts'

export interface FollowingDoors {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly dataDir: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** Address of the door for webhooks; `none` for none. */
  readonly webhooks: string
}

/** What git may see of the server's own environment: where programs are, and the way out to the network. */
const passedOn = ['PATH', 'HTTPS_PROXY', 'https_proxy', 'NO_PROXY', 'no_proxy', 'SSL_CERT_FILE', 'SSL_CERT_DIR']

export interface Following {
  /** What `/metrics` tells of Syncs. */
  metrics(): Promise<string>
  stop(): Promise<void>
}

export async function startFollowing(doors: FollowingDoors): Promise<Following> {
  const { store, clock, log, dataDir, env } = doors
  const { home } = prepareFolder(dataDir)
  const gitEnv = Object.fromEntries(passedOn.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])))
  const reader = createReader({ dataDir, clock, git: spawnGit({ clock, env: gitEnv, home }) })
  const metrics = createGitopsMetrics(store)
  const gitops = startGitops({ ...doors, reader, ...metrics })
  const hints = watchSources(store, gitops.hint, log)
  const door =
    doors.webhooks === 'none'
      ? undefined
      : await openWebhookDoor({ store, clock, log, dataDir, hint: gitops.hint }, doors.webhooks)
  if (door !== undefined) log.info('webhooks are listened for', { address: door.address })
  return {
    metrics: metrics.text,
    async stop() {
      await door?.stop()
      await hints.stop()
      await gitops.stop()
    },
  }
}
