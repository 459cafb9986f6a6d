-- Queues of scripts/demo; made by the superuser, used by the role "clerk".
SELECT dts.create_queue('transfers', batch_size => 20, max_attempts => 3, retry => '{"base": 0.5, "cap": 5, "not_on": ["23"]}',
                        description => 'Money from account to account. Broken references (class 23) are not worth a second attempt.') \g /dev/null
SELECT dts.create_queue('reports', timeout => '30 s', description => 'Summaries.') \g /dev/null
SELECT dts.create_queue('upkeep', priority => 1, max_attempts => 2, description => 'VACUUM and the like.') \g /dev/null
