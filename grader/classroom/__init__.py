"""From one submission to a course: collect, grade on one machine or many, keep a gradebook, export, review.

collect     what Gradescope, Moodle, Canvas and GitHub Classroom export -> submissions
gradebook   SQLite: every submission and every result ever, a transaction each
task        one submission's grading, as a worker runs it; deaf: Ctrl-C does nothing to its process
run         all of them, on dask.distributed: who is graded where and when; cluster: the machines
policy      which of a student's submissions counts, and what lateness costs
exports     CSV, Gradescope's results.json, a feedback page for each student
page        the class report, one HTML file; watch serves it while grading runs
similar     near-identical submissions (winnowing)
handout     what students get; proof: that it works; gradescope: the autograder; archive: their zips
example     a class to rehearse with
"""
