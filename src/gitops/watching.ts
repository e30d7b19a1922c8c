/**
 * The file system as a hint: directories, and the refs of repositories on this machine, are watched, and a change of any
 * kind says "look". What was changed is never taken from the watcher: it loses events, doubles them and mixes them up.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { watch } from 'chokidar'
import type { FSWatcher } from 'chokidar'
import type { Sync } from '../api/sync.ts'
import { messageOf } from '../lib/errors.ts'
import type { Logger } from '../lib/log.ts'
import type { Store } from '../store/store.ts'

const MAX_DEPTH = 10

interface Watching {
  readonly path: string
  readonly watcher: FSWatcher
}

export interface Hints {
  stop(): Promise<void>
}

/** Watches what the Syncs follow on this machine, as they come and go. */
export function watchSources(store: Store, hint: (sync: string) => void, log: Logger): Hints {
  const watched = new Map<string, Watching>()
  const ended = new Set<Promise<void>>()
  const end = (name: string, { watcher }: Watching) => {
    watched.delete(name)
    const closing: Promise<void> = watcher.close().finally(() => ended.delete(closing))
    ended.add(closing)
  }
  const look = () => {
    const wanted = new Map(store.snapshot().list('Sync').flatMap(watchedPathOf))
    for (const [name, watching] of watched) if (wanted.get(name) !== watching.path) end(name, watching)
    for (const [name, path] of wanted)
      if (!watched.has(name)) watched.set(name, { path, watcher: begin(path, () => hint(name), log) })
  }
  const unsubscribe = store.onCommit((changes) => {
    if (changes.some(({ object }) => object.kind === 'Sync')) look()
  })
  look()
  return {
    async stop() {
      unsubscribe()
      for (const [name, watching] of watched) end(name, watching)
      await Promise.all(ended)
    },
  }
}

function begin(path: string, onChange: () => void, log: Logger): FSWatcher {
  const watcher = watch(refsOf(path), { ignoreInitial: true, followSymlinks: false, depth: MAX_DEPTH })
  watcher.on('all', onChange)
  // The interval finds what a hint did not tell.
  watcher.on('error', (error) => log.warn('a source cannot be watched', { path, error: messageOf(error) }))
  return watcher
}

/** Of a repository what a commit changes; of a plain folder all of it. */
function refsOf(path: string): string[] {
  const gitDir = [join(path, '.git'), path].find(
    (dir) => existsSync(join(dir, 'refs')) && existsSync(join(dir, 'HEAD')),
  )
  return gitDir === undefined ? [path] : [join(gitDir, 'refs'), join(gitDir, 'packed-refs')]
}

function watchedPathOf({ metadata, spec }: Sync): readonly (readonly [string, string])[] {
  const { git, directory } = spec.source
  if (directory !== undefined) return [[metadata.name, directory]]
  return git?.url.startsWith('file:///') === true ? [[metadata.name, localPath(git.url)]] : []
}

function localPath(url: string): string {
  try {
    return fileURLToPath(url)
  } catch {
    return url.slice('file://'.length)
  }
}
