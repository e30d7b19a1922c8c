/** The demo's manifests repository: a temporary one, and what a person types to change it. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

export interface DemoFleet {
  readonly dir: string
  /** The manifest of the Sync that follows the repository. */
  readonly syncFile: string
  /** Copies the file into the repository and commits it, as it is printed. */
  commit(file: string, message: string): void
  close(): void
}

/** undefined where there is no git: the demo tells its other stories. */
export function openFleet(): DemoFleet | undefined {
  const root = mkdtempSync(join(tmpdir(), 'mctl-fleet-'))
  const dir = join(root, 'fleet')
  const syncFile = join(root, 'sync.yaml')
  try {
    execFileSync('git', ['init', '--quiet', '--initial-branch=main', dir], { stdio: 'ignore' })
  } catch {
    rmSync(root, { recursive: true, force: true })
    return undefined
  }
  writeFileSync(
    syncFile,
    [
      'apiVersion: mctl.dev/v1alpha1',
      'kind: Sync',
      'metadata: { name: fleet }',
      `spec: { source: { git: { url: "file://${dir}" } } }`,
      '',
    ].join('\n'),
  )
  const git = (...args: string[]) => {
    const who = ['-c', 'user.name=demo', '-c', 'user.email=demo@localhost', '-c', 'commit.gpgsign=false']
    execFileSync('git', ['-C', dir, ...who, ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
  }
  git('commit', '--quiet', '--allow-empty', '-m', 'Begin')
  return {
    dir,
    syncFile,
    commit(file, message) {
      process.stdout.write(`$ cp ${file} ${dir}\n$ git -C ${dir} add -A && git -C ${dir} commit -qm "${message}"\n\n`)
      cpSync(file, join(dir, basename(file)))
      git('add', '-A')
      git('commit', '--quiet', '-m', message)
    },
    close: () => rmSync(root, { recursive: true, force: true }),
  }
}
